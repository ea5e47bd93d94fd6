"""What a file of tensors is: checkpoint, adapter, upscaler, latents, encoded prompt, sample."""

from collections import Counter
from math import prod
from pathlib import Path
from typing import Any

from ltx_infer.hub.names import variant_of
from ltx_infer.hub.place import shown_size
from ltx_infer.info.media import about_settings
from ltx_infer.lora_report import findings, inspect
from ltx_infer.lora_report import lines as adapter_lines
from ltx_infer.pipeline.embedding import AUDIO, NEGATIVE, VIDEO, read_embedding
from ltx_infer.pipeline.saved import KIND
from ltx_infer.settings import settings_in
from ltx_models.checkpoint import NETWORKS, PREFIXES, Checkpoint, open_checkpoint
from ltx_models.converted.layout import TRANSFORMER
from ltx_models.errors import UserError
from ltx_models.identity import weights_hash
from ltx_models.lora.files import LoRAError, read_lora
from ltx_models.lora.keys import parts_by_module
from ltx_models.upsampler import read_upsampler_config
from ltx_models.weights import TensorFile

SAMPLE = "model_hash"  # in the metadata of what ltx-precompute writes
UPSCALER = "initial_conv.weight"


def about_tensors(path: Path) -> dict[str, Any]:
    """What a safetensors file is. Raises UserError for one that is damaged or nothing we know."""
    file = TensorFile(path)
    size = shown_size(path.stat().st_size)
    for known, what in (
        (file.metadata.get("kind") == KIND, _latents),
        (NEGATIVE + VIDEO in file.infos, _embedding),
        (SAMPLE in file.metadata or VIDEO in file.infos, _sample),
        (UPSCALER in file.infos, _upscaler),
        (_is_adapter(file), _adapter),
        (any(key.startswith(PREFIXES) for key in file.infos), _checkpoint_file),
    ):
        if known:
            return {**what(file), "bytes": size}
    raise UserError(
        f"--info {path}: {len(file.infos)} tensors, {next(iter(file.infos), 'none')} the first; "
        "no checkpoint, adapter, upscaler, latents, encoded prompt or sample of LTX-2"
    )


def _latents(file: TensorFile) -> dict[str, Any]:
    settings = settings_in(file.metadata.get("comment"))
    return {
        "what": "latents of a run; ltx-generate --decode-only takes them",
        **_shapes(file),
        "frames a second": float(file.metadata["fps"]),
        "model": file.metadata["model"],
        **({} if settings is None else about_settings(settings)),
    }


def _embedding(file: TensorFile) -> dict[str, Any]:
    found = file.metadata
    return {
        "what": "encoded prompt; ltx-generate --embedding takes it",
        "prompt": found.get("prompt"),
        "negative prompt": found.get("negative_prompt"),
        "tokens": file.infos[VIDEO].shape[0],
        "for sound too": AUDIO in file.infos or None,
        "model version": found.get("model_version"),
        "made by weights": found.get("model_hash"),
    }


def about_npz(path: Path) -> dict[str, Any]:
    """What an .npz is: an encoded prompt of another program, or UserError."""
    found = read_embedding(path)
    assert found.context is not None
    return {
        "what": "encoded prompt of the first MLX port; ltx-generate --embedding takes it",
        "prompt": found.prompt,
        "tokens": found.context.shape[1],
        "bytes": shown_size(path.stat().st_size),
    }


def _sample(file: TensorFile) -> dict[str, Any]:
    return {
        "what": "sample of a data set, by ltx-precompute",
        **_shapes(file),
        "metadata": dict(file.metadata),
    }


def _upscaler(file: TensorFile) -> dict[str, Any]:
    config = read_upsampler_config(file)
    what = "twice the frames" if config.temporal_upsample else f"x{config.spatial_scale:g} the size"
    return {
        "what": f"latent upscaler, {what}",
        "channels": config.in_channels,
        "types": _types(file),
        "hash": weights_hash([file]),
    }


def _is_adapter(file: TensorFile) -> bool:
    try:
        parts_by_module(file.infos, path=file.path)
    except LoRAError:
        return False
    return True


def _adapter(file: TensorFile) -> dict[str, Any]:
    report = inspect(read_lora(file.path))
    facts = {word: text for word, text in adapter_lines(report) if word not in ("file", "what")}
    return {
        "what": f"adapter: {' and '.join(report['families'])} on {report['layers']} layers",
        **facts,
        "hash": weights_hash([file]),
        "findings": findings(report),
    }


def _checkpoint_file(file: TensorFile) -> dict[str, Any]:
    return about_checkpoint(open_checkpoint(file.path))


def about_checkpoint(checkpoint: Checkpoint) -> dict[str, Any]:
    """Version, variant, networks and how they are stored, of a file or a converted folder."""
    file = checkpoint.file
    stored = Counter(map(str, checkpoint.quantization.values()))
    networks = {
        name.rstrip("."): [key for key in file.infos if key.startswith(name)] for name in NETWORKS
    }
    return {
        "what": "checkpoint" if checkpoint.path.is_file() else "converted folder",
        "version": ".".join(map(str, checkpoint.version)),
        "variant": variant_of(checkpoint.path.name) or "its name does not say",
        "networks": {
            name: f"{sum(_num_values(checkpoint, key) for key in keys):,} numbers"
            for name, keys in networks.items()
            if keys
        },
        "types": _types(file),
        "quantised": [f"{how} ({count} layers)" for how, count in stored.items()],
        "hash": weights_hash([file]),
    }


def _num_values(checkpoint: Checkpoint, key: str) -> int:
    """How many weights a tensor stands for; scales and biases of quantised ones are none."""
    count = prod(checkpoint.file.infos[key].shape)
    layer, _, part = key.removeprefix(TRANSFORMER).rpartition(".")
    how = checkpoint.quantization.get(layer) if key.startswith(TRANSFORMER) else None
    if how is None:
        return count
    return {"weight": count * 32 // how.bits, "scales": 0, "biases": 0}.get(part, count)


def _types(file: TensorFile) -> str:
    counts = Counter(info.dtype for info in file.infos.values())
    return ", ".join(f"{dtype} ({count})" for dtype, count in counts.most_common())


def _shapes(file: TensorFile) -> dict[str, Any]:
    return {"tensors": {key: str(info.shape) for key, info in file.infos.items()}}
