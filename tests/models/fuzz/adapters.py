"""Adapters of any family, right or wrong, and what they are to change, computed here."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from hypothesis import strategies as st

from tests.models.fuzz.damage import DAMAGES, Draw
from tests.models.fuzz.raw import Raw, blob_of, raw, values
from tests.models.lora.families import LAYERS, diffusers, flat, port, same

NORM = "transformer_blocks.0.attn1.q_norm"
TEXT = "video_embeddings_connector.transformer_1d_blocks.0.attn1.to_q"
SPELLINGS: tuple[tuple[str, Callable[[str], str]], ...] = (
    ("diffusion_model.", same),
    ("model.diffusion_model.", same),
    ("", same),
    ("transformer.", diffusers),
    ("diffusion_model.", port),
    ("lora_unet_", flat),
)
ENDS = (
    (".lora_A.weight", ".lora_B.weight"),
    (".lora_down.weight", ".lora_up.weight"),
    (".lora_A.default.weight", ".lora_B.default.weight"),
    (".lora.down.weight", ".lora.up.weight"),
)
TYPES = ("F32", "F32", "F16", "BF16", "F8_E4M3")
ALPHAS = (1.0, 2.5, 0.0, -3.0, 1e6, 1e30, 3e38, 1e-30, float("nan"), float("inf"))
NAMES = ("", ".", "a", "é.to_q", "\U0001f47e", "diffusion_model", "\u202eq", "a\nb", "to_q" * 99)
METADATA: tuple[Any, ...] = (
    {},
    {"use_rslora": "true"},
    {"ss_rslora": "1", "model_version": "2.3.0"},
    {"model_version": "9" * 5000},
    {"base_model": "ltx-" + "2" * 5000},
    {"model_version": "2.3\nx\ny\nz\nw\nv"},
    {"reference_downscale_factor": "0" * 400 + "1"},
    {"reference_downscale_factor": "1" * 400},
    {"reference_downscale_factor": "2", "reference_spatial_scale_factor": "3\n" * 99},
    {"reference_temporal_scale_factor": "\u0662"},
    {"a": 1},
    {"a": None},
    ["a"],
    "a",
    1,
)
PEFT: tuple[Any, ...] = (
    {"transformer.lora_alpha": 6, "transformer.r": 2},
    {"lora_alpha": 6.5, "use_rslora": True},
    {"lora_alpha": float("nan")},
    {"lora_alpha": float("inf")},
    {"lora_alpha": 10**400},
    {"lora_alpha": "6"},
    {"lora_alpha": 6, "use_rslora": "false"},
    {"lora_alpha": 6, "r": -4, "use_rslora": True},
    {"lora_alpha": 6, "alpha_pattern": {"to_q": 3}},
    {"lora_alpha": 6, "alpha_pattern": {"(": 3}},
    {"lora_alpha": 6, "alpha_pattern": {"*": 3}},
    {"lora_alpha": 6, "alpha_pattern": {"(a+)+b": 3, r".*.*.*.*x": 2}},
    {"lora_alpha": 6, "alpha_pattern": [3]},
    {"alpha_pattern": {"to_q": None}},
    [],
    "a",
)
NESTED = ("[" * 200 + "]" * 200, "[" * 10**5, '{"a":' * 900 + "1" + "}" * 900, "{", "", "\ud800")


class Made(NamedTuple):
    """A file's bytes, and the part of which layer each key is; None where bytes were damaged."""

    blob: bytes
    meant: Mapping[str, tuple[str, str]] | None

    def __repr__(self) -> str:
        return f"Made({self.blob[:3000]!r})"


class Draft:
    """A file in the making: tensors and what they are to be."""

    def __init__(self, draw: Draw, shapes: Mapping[str, tuple[int, ...]]):
        self.draw, self.shapes = draw, shapes
        self.rng = np.random.default_rng(draw(st.integers(0, 2**32)))
        self.tensors: dict[str, Raw] = {}
        self.meant: dict[str, tuple[str, str]] = {}
        self.metadata: Any = {}
        self.prefix, self.named = draw(st.sampled_from(SPELLINGS))
        self.ends = draw(st.sampled_from(ENDS))

    def put(self, layer: str, part: str, *shape: int, end: str | None = None) -> None:
        """A part of a layer's update, of random values."""
        key = f"{self.prefix}{self.named(layer)}{end or f'.{part}'}"
        dtype = self.draw(st.sampled_from(TYPES))
        self.tensors[key] = raw(self.rng.normal(size=shape), dtype)
        self.meant[key] = layer, part

    def scalar(self, layer: str, value: float, dtype: str) -> None:
        key = f"{self.prefix}{self.named(layer)}.alpha"
        shape = self.draw(st.sampled_from(((), (1,))))
        self.tensors[key] = raw(np.full(shape, value), dtype)
        self.meant[key] = layer, "alpha"

    def update(self, layer: str) -> None:
        """All parts of one layer's update."""
        rank = self.draw(st.integers(1, 4))
        if layer == NORM:
            self.put(layer, "diff", *self.shapes[layer], end=".w_norm")
            return
        rows, columns = self.shapes[layer]
        match self.draw(st.sampled_from(("LoRA", "LoRA", "LoRA", "LoHa", "LoKr", "full"))):
            case "LoRA":
                self.put(layer, "lora_A", rank, columns, end=self.ends[0])
                self.put(layer, "lora_B", rows, rank, end=self.ends[1])
                if self.draw(st.integers(0, 3)) == 0:
                    size = self.draw(st.sampled_from(((rows,), (rows, 1), (1, columns))))
                    self.put(layer, "magnitude", *size, end=".dora_scale")
            case "LoHa":
                for half in ("w1", "w2"):
                    self.put(layer, f"hada_{half}_a", rows, rank)
                    self.put(layer, f"hada_{half}_b", rank, columns)
            case "LoKr":
                self.put(layer, "lokr_w1", 2, 1)
                self.put(layer, "lokr_w2_a", rows // 2, rank)
                self.put(layer, "lokr_w2_b", rank, columns)
            case "full":
                self.put(layer, "diff", rows, columns)
        if self.draw(st.integers(0, 2)) == 0:
            kind = self.draw(st.sampled_from(("F32", "F32", "BF16", "I64", "F8_E4M3", "U8")))
            self.scalar(layer, self.draw(st.sampled_from((1.0, 2.0, 4.0))), kind)
        if self.draw(st.integers(0, 4)) == 0:
            self.put(layer, "diff_b", rows)

    def any_key(self) -> str | None:
        return self.draw(st.sampled_from(sorted(self.tensors))) if self.tensors else None


def remove(draft: Draft, key: str) -> None:
    del draft.tensors[key]


def rename(draft: Draft, key: str) -> None:
    name, old = draft.draw(st.sampled_from(NAMES)), draft.tensors.pop(key)
    end = draft.draw(st.sampled_from((key, ".lora_A.weight", ".diff", "", ".alpha")))
    draft.tensors[name + end] = old


def reshape(draft: Draft, key: str) -> None:
    shape = list(draft.tensors[key].shape)
    how = draft.draw(st.integers(0, 4))
    if how == 0 or not shape:
        shape.append(draft.draw(st.integers(0, 3)))
    elif how == 1:
        shape.pop()
    else:
        at = draft.draw(st.integers(0, len(shape) - 1))
        shape[at] = draft.draw(st.integers(0, 3) | st.just(shape[at] + 1))
    draft.tensors[key] = raw(draft.rng.normal(size=shape), draft.tensors[key].dtype)


def retype(draft: Draft, key: str) -> None:
    kind = draft.draw(st.sampled_from(("F64", "I32", "U8", "BOOL", "C64", "F8_E5M2", "X7", "BF16")))
    draft.tensors[key] = raw(draft.rng.normal(size=draft.tensors[key].shape), kind)


def spoil(draft: Draft, key: str) -> None:
    value = draft.draw(st.sampled_from((float("nan"), float("inf"), 3e38, 0.0)))
    draft.tensors[key] = raw(np.full(draft.tensors[key].shape, value), "F32")


def twice(draft: Draft, key: str) -> None:
    prefix = draft.draw(st.sampled_from(("base_model.model.", "model.", "diffusion_model.", "x.")))
    draft.tensors[prefix + key] = draft.tensors[key]
    if prefix != "x.":
        draft.meant[prefix + key] = draft.meant.get(key, ("", ""))


def odd_alpha(draft: Draft, key: str) -> None:
    layer = draft.meant.get(key, (LAYERS[0], ""))[0]
    kind = draft.draw(st.sampled_from(("F32", "F32", "F32", "BOOL", "C64", "I64", "F64")))
    draft.scalar(layer, draft.draw(st.sampled_from(ALPHAS)), kind)


def about(draft: Draft, _key: str) -> None:
    draft.metadata = draft.draw(st.sampled_from(METADATA))


def peft(draft: Draft, _key: str) -> None:
    texts = st.sampled_from(PEFT).map(json.dumps) | st.sampled_from(NESTED)
    draft.metadata = {"lora_adapter_metadata": draft.draw(texts)}


FAULTS = (remove, rename, reshape, retype, spoil, twice, odd_alpha, about, peft)


@st.composite
def adapters(draw: Draw, shapes: Mapping[str, tuple[int, ...]]) -> Made:
    """Files for layers of these shapes, right or with up to two faults and some damage."""
    draft = Draft(draw, shapes)
    layers = st.sampled_from(sorted(shapes))
    for layer in draw(st.lists(layers, min_size=1, max_size=3, unique=True)):
        draft.update(layer)
    for _ in range(draw(st.sampled_from((0, 0, 1, 1, 2)))):
        fault = draw(st.sampled_from(FAULTS))
        key = draft.any_key()
        if key is not None:
            fault(draft, key)
    blob = blob_of(draft.tensors, draft.metadata)
    damage = draw(st.sampled_from((*[None] * 2 * len(DAMAGES), *DAMAGES)))
    if damage is None:
        return Made(blob, {key: draft.meant[key] for key in draft.tensors if key in draft.meant})
    return Made(damage(draw, blob), None)


def scale_of(keys: Mapping[str, str], tensors: Mapping[str, np.ndarray], rank: int, said) -> float:
    """What the update is multiplied with, by alpha in the file or in its metadata's words."""
    data = json.loads(said.get("lora_adapter_metadata") or "{}")
    own = "transformer." if next(iter(keys.values())).startswith("transformer.") else ""
    alpha, stable = data.get(f"{own}lora_alpha"), bool(data.get(f"{own}use_rslora"))
    if own and not any(key.startswith(own) for key in data):
        alpha, stable = data.get("lora_alpha"), bool(data.get("use_rslora"))
    layer = next(iter(keys.values())).replace("_to_q", ".to_q")
    for end, value in data.get("alpha_pattern", {}).items():
        alpha = value if f".{end}." in layer else alpha
    if "alpha" in keys:
        alpha = tensors[keys["alpha"]].item()
    if not any(f"{own}." for own in data):
        stable = said.get("use_rslora") == "true" or said.get("ss_rslora") == "1"
    if alpha is None or not rank:
        return 1.0
    return alpha / rank ** (0.5 if stable else 1)


def change(
    keys: Mapping[str, str], path: Path, said: Mapping[str, str], weight: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """What is added to a weight and to its bias at strength 1, by the formulas, in float64."""
    tensors = values(path)
    has = {part: tensors[key] for part, key in keys.items()}
    delta, rank = np.zeros(weight.shape), 0
    if "lora_A" in has:
        rank = len(has["lora_A"])
        delta = has["lora_B"] @ has["lora_A"]
    elif "hada_w1_a" in has:
        rank = has["hada_w1_a"].shape[1]
        delta = (has["hada_w1_a"] @ has["hada_w1_b"]) * (has["hada_w2_a"] @ has["hada_w2_b"])
    elif "lokr_w1" in has:
        rank = has["lokr_w2_a"].shape[1]
        delta = np.kron(has["lokr_w1"], has["lokr_w2_a"] @ has["lokr_w2_b"])
    delta = delta * scale_of(keys, tensors, rank, said)
    if "magnitude" in has:
        norms = has["magnitude"]
        norms = norms[:, None] if norms.ndim == 1 else norms
        axis = 1 if norms.shape[0] == len(weight) and norms.shape[1] == 1 else 0
        changed = weight + delta
        lengths = np.maximum(np.linalg.norm(changed, axis=axis, keepdims=True), 1e-12)
        delta = changed * (norms / lengths) - weight
    delta = delta + has.get("diff", 0)
    return delta, has.get("diff_b", np.zeros(len(weight)))
