"""One adapter in every family and spelling of spec/lora_files.md 4.2, and what each adds.

Each writer takes a folder and the weights of the layers that it changes, writes a file there, and
gives its path and by layer the change of the weight: computed here in float64, by the formulas.
"""

import json
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import mlx.core as mx
import numpy as np

Weights = Mapping[str, np.ndarray]
Deltas = dict[str, np.ndarray]
Write = Callable[[Path, Weights], tuple[Path, Deltas]]

RANK, ALPHA = 4, 6.0
LAYERS = (  # where dialects differ
    "transformer_blocks.0.attn1.to_q",
    "transformer_blocks.1.audio_attn1.to_out.0",
    "transformer_blocks.0.video_to_audio_attn.to_k",
    "transformer_blocks.1.ff.net.0.proj",
    "transformer_blocks.1.audio_ff.net.2",
    "transformer_blocks.0.attn2.to_gate_logits",
    "patchify_proj",
    "audio_proj_out",
    "adaln_single.emb.timestep_embedder.linear_1",
    "audio_prompt_adaln_single.linear",
    "av_ca_video_scale_shift_adaln_single.linear",
    "av_ca_v2a_gate_adaln_single.linear",
)
DIFFUSERS = {
    "patchify_proj": "proj_in",
    "adaln_single": "time_embed",
    "audio_prompt_adaln_single": "audio_prompt_adaln",
    "av_ca_video_scale_shift_adaln_single": "av_cross_attn_video_scale_shift",
    "av_ca_v2a_gate_adaln_single": "av_cross_attn_audio_v2a_gate",
}
PORTS = {"to_out.0": "to_out", "net.0.proj": "proj_in", "net.2": "proj_out", "linear_1": "linear1"}


def same(path: str) -> str:
    return path


def diffusers(path: str) -> str:
    return ".".join(DIFFUSERS.get(part, part) for part in path.split("."))


def port(path: str) -> str:
    for ours, theirs in PORTS.items():
        path = path.replace(ours, theirs)
    return path


def flat(path: str) -> str:
    return path.replace(".", "_")


def flat_diffusers(path: str) -> str:
    return flat(diffusers(path))


def factors(draw: np.random.Generator, rows: int, columns: int) -> tuple[np.ndarray, np.ndarray]:
    """lora_A and lora_B, as a file has them: float32."""
    A, B = draw.normal(size=(RANK, columns)) / columns**0.5, draw.normal(size=(rows, RANK))
    return A.astype(np.float32), B.astype(np.float32)


def save(folder: Path, tensors: Mapping, metadata: dict[str, str], *, name: str = "a") -> Path:
    path = folder / f"{name}.safetensors"
    arrays = {key: mx.array(value, mx.float32) for key, value in tensors.items()}
    mx.save_safetensors(str(path), arrays, metadata)
    return path


def lora(
    folder: Path,
    weights: Weights,
    *,
    prefix: str = "",
    named: Callable[[str], str] = same,
    ends: tuple[str, str] = (".lora_A.weight", ".lora_B.weight"),
    alpha: bool = False,
    stabilised: bool = False,
    scale: float | None = None,
    metadata: Mapping[str, str] | None = None,
    beside: Mapping | None = None,
    stem: str = "a",
) -> tuple[Path, Deltas]:
    """Plain LoRA; ``scale`` is what the file's words make of it, where no alpha is in it."""
    draw, tensors, deltas = np.random.default_rng(0), {}, {}
    for layer, weight in weights.items():
        A, B = factors(draw, *weight.shape)
        at = f"{prefix}{named(layer)}"
        turned = ends[0].endswith("lora_a")
        tensors |= {f"{at}{ends[0]}": A.T if turned else A, f"{at}{ends[1]}": B.T if turned else B}
        if alpha:
            tensors[f"{at}.alpha"] = ALPHA
        factor = ALPHA / RANK ** (0.5 if stabilised else 1) if alpha else scale or 1
        deltas[layer] = factor * B.astype(np.float64) @ A.astype(np.float64)
    if beside is not None:
        (folder / "adapter_config.json").write_text(json.dumps(beside))
    return save(folder, tensors, dict(metadata or {}), name=stem), deltas


def dora(
    folder: Path,
    weights: Weights,
    *,
    prefix: str = "diffusion_model.",
    named: Callable[[str], str] = same,
    end: str = ".dora_scale",
    columns: bool = False,
    flat_magnitude: bool = False,
) -> tuple[Path, Deltas]:
    draw, tensors, deltas = np.random.default_rng(1), {}, {}
    for layer, weight in weights.items():
        A, B = factors(draw, *weight.shape)
        changed = weight + ALPHA / RANK * B.astype(np.float64) @ A.astype(np.float64)
        norms = np.linalg.norm(changed, axis=0 if columns else 1, keepdims=True)
        magnitude = (norms * draw.uniform(0.5, 1.5, norms.shape)).astype(np.float32)
        at = f"{prefix}{named(layer)}"
        tensors |= {f"{at}.lora_down.weight": A, f"{at}.lora_up.weight": B, f"{at}.alpha": ALPHA}
        tensors[f"{at}{end}"] = magnitude.ravel() if flat_magnitude else magnitude
        deltas[layer] = magnitude / norms * changed - weight
    return save(folder, tensors, {}), deltas


def dora_mlx(folder: Path, weights: Weights) -> tuple[Path, Deltas]:
    draw, tensors, deltas = np.random.default_rng(1), {}, {}
    for layer, weight in weights.items():
        A, B = factors(draw, *weight.shape)
        changed = weight + 2 * B.astype(np.float64) @ A.astype(np.float64)
        norms = np.linalg.norm(changed, axis=1)
        magnitude = (1.2 * norms).astype(np.float32)
        tensors |= {f"{layer}.lora_a": A.T, f"{layer}.lora_b": B.T, f"{layer}.m": magnitude}
        deltas[layer] = (magnitude / norms)[:, None] * changed - weight
    (folder / "adapter_config.json").write_text('{"lora_parameters": {"rank": 4, "scale": 2.0}}')
    return save(folder, tensors, {}, name="adapters"), deltas


def halves(rows: int, columns: int) -> tuple[tuple[int, int], tuple[int, int]]:
    return (2, 2), (rows // 2, columns // 2)


def lokr(
    folder: Path,
    weights: Weights,
    *,
    prefix: str,
    named: Callable[[str], str] = same,
    factored: bool,
    alpha: float,
    magnitude: bool = False,
) -> tuple[Path, Deltas]:
    draw, tensors, deltas = np.random.default_rng(2), {}, {}
    for layer, weight in weights.items():
        (a, b), (c, d) = halves(*weight.shape)
        at = f"{prefix}{named(layer)}"
        w1 = draw.normal(size=(a, b)).astype(np.float32)
        tensors |= {f"{at}.lokr_w1": w1, f"{at}.alpha": alpha}
        if factored:
            left, right = draw.normal(size=(c, RANK)), draw.normal(size=(RANK, d))
            tensors |= {f"{at}.lokr_w2_a": left, f"{at}.lokr_w2_b": right}
            w2, scale = (
                np.float32(left).astype(float) @ np.float32(right).astype(float),
                alpha / RANK,
            )
        else:
            w2, scale = draw.normal(size=(c, d)).astype(np.float32), 1.0
            tensors[f"{at}.lokr_w2"] = w2
        deltas[layer] = scale * np.kron(w1.astype(np.float64), w2)
        if magnitude:
            changed = weight + deltas[layer]
            norms = np.linalg.norm(changed, axis=1, keepdims=True)
            tensors[f"{at}.dora_scale"] = 1.5 * norms
            deltas[layer] = np.float32(1.5 * norms) / norms * changed - weight
    return save(folder, tensors, {}), deltas


def loha(
    folder: Path, weights: Weights, *, prefix: str, named: Callable[[str], str], rank: int
) -> tuple[Path, Deltas]:
    draw, tensors, deltas = np.random.default_rng(3), {}, {}
    for layer, weight in weights.items():
        rows, columns = weight.shape
        sizes = {"w1_a": (rows, rank), "w1_b": (rank, columns)}
        sizes |= {"w2_a": (rows, rank), "w2_b": (rank, columns)}
        parts = {name: draw.normal(size=size).astype(np.float32) for name, size in sizes.items()}
        at = f"{prefix}{named(layer)}"
        tensors |= {f"{at}.hada_{name}": value for name, value in parts.items()}
        tensors[f"{at}.alpha"] = 2.0
        one, two, three, four = (value.astype(np.float64) for value in parts.values())
        deltas[layer] = 2 / rank * (one @ two) * (three @ four)
    return save(folder, tensors, {}), deltas


def full(folder: Path, weights: Weights) -> tuple[Path, Deltas]:
    draw = np.random.default_rng(4)
    deltas = {layer: np.float32(draw.normal(size=w.shape)) for layer, w in weights.items()}
    tensors = {f"diffusion_model.{layer}.diff": delta for layer, delta in deltas.items()}
    return save(folder, tensors, {}), {k: v.astype(np.float64) for k, v in deltas.items()}


PEFT = {"peft_type": "LORA", "r": RANK, "lora_alpha": 8, "alpha_pattern": {}}
METADATA = {"transformer.r": RANK, "transformer.lora_alpha": 12, "transformer.alpha_pattern": {}}
UNDERSCORE = ("_lora.down.weight", "_lora.up.weight")
DOTS = (".lora.down.weight", ".lora.up.weight")
KOHYA = (".lora_down.weight", ".lora_up.weight")
NAMED = (".lora_A.default.weight", ".lora_B.default.weight")

FAMILIES: dict[str, Write] = {
    "ltx-trainer": partial(lora, prefix="diffusion_model."),
    "ltx-trainer, whole prefix": partial(lora, prefix="model.diffusion_model."),
    "comfy down/up": partial(lora, prefix="diffusion_model.", ends=KOHYA),
    "comfy lora.down": partial(lora, prefix="diffusion_model.", ends=DOTS),
    "comfy with alpha": partial(lora, prefix="diffusion_model.", alpha=True),
    "ai-toolkit": partial(
        lora, prefix="diffusion_model.", metadata={"ss_base_model_version": "ltx2.3"}
    ),
    "musubi native": partial(lora, prefix="lora_unet_model_", named=flat, ends=KOHYA, alpha=True),
    "kohya": partial(lora, prefix="lora_unet_", named=flat, ends=KOHYA, alpha=True),
    "diffusers": partial(
        lora,
        prefix="transformer.",
        named=diffusers,
        scale=3,
        metadata={"lora_adapter_metadata": json.dumps(METADATA)},
    ),
    "diffusers, old": partial(lora, prefix="transformer.", named=diffusers, ends=UNDERSCORE),
    "diffusers, lora_linear_layer": partial(
        lora,
        prefix="transformer.",
        named=diffusers,
        ends=(".lora_linear_layer.down.weight", ".lora_linear_layer.up.weight"),
    ),
    "peft": partial(lora, prefix="base_model.model.", scale=2, beside=PEFT, stem="adapter_model"),
    "peft, rank-stabilised": partial(
        lora,
        prefix="base_model.model.",
        ends=NAMED,
        scale=4,
        beside={**PEFT, "use_rslora": True},
        stem="adapter_model",
    ),
    "rsLoRA by its own metadata": partial(
        lora,
        alpha=True,
        stabilised=True,
        metadata={"use_rslora": "true"},
        ends=(".lora_A", ".lora_B"),
    ),
    "diffsynth": partial(lora, ends=NAMED),
    "onetrainer": partial(
        lora, prefix="lora_transformer_", named=flat_diffusers, ends=KOHYA, alpha=True
    ),
    "lycoris lora": partial(lora, prefix="lycoris_", named=flat_diffusers, ends=KOHYA, alpha=True),
    "mlx-lm": partial(
        lora, ends=(".lora_a", ".lora_b"), scale=5, beside={"lora_parameters": {"scale": 5.0}}
    ),
    "mflux": partial(lora, prefix="transformer.", named=lambda path: port(diffusers(path))),
    "dgrauet": partial(lora, prefix="diffusion_model.", named=port),
    "sceneworks": partial(lora, alpha=True, metadata={"networkType": "lora"}),
    "musubi dora": partial(
        dora,
        prefix="lora_unet_model_",
        named=flat,
        end=".lora_magnitude_vector.weight",
        flat_magnitude=True,
    ),
    "comfy dora": dora,
    "dora over columns": partial(dora, columns=True),
    "mlx-lm dora": dora_mlx,
    "ai-toolkit lokr": partial(lokr, prefix="diffusion_model.", factored=False, alpha=9999999999),
    "lycoris lokr": partial(
        lokr, prefix="lycoris_", named=flat_diffusers, factored=True, alpha=2.0
    ),
    "lycoris lokr with dora": partial(
        lokr, prefix="lycoris_", named=flat_diffusers, factored=True, alpha=2.0, magnitude=True
    ),
    "lycoris loha": partial(loha, prefix="lycoris_", named=flat_diffusers, rank=2),
    "loha of large rank": partial(loha, prefix="diffusion_model.", named=same, rank=8),
    "ai-toolkit full": full,
}
