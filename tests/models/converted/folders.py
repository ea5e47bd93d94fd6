"""Folders in the layouts that are read, written from a monolith by the shortest way."""

import json
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import mlx.core as mx

from ltx_models.checkpoint import Checkpoint, open_checkpoint
from ltx_models.converted.layout import (
    COMPONENTS,
    CONFIG,
    INDEX,
    MODEL_TYPE,
    TRANSFORMER_FOLDER,
    places,
)
from ltx_models.quantize import Quantization, is_quantised
from tests.conftest import GOLDEN

Tensors = dict[str, mx.array]
DROPPED = ("channel", "mean-of-stds", "mean-of-stds_over_std-of-means")  # statistics


def golden(model: str) -> Checkpoint:
    return open_checkpoint(GOLDEN / f"{model}.safetensors")


def tensors_of(checkpoint: Checkpoint) -> Tensors:
    return checkpoint.file.tensors("", checkpoint.file.keys(""))


def write_folder(
    folder: Path, checkpoint: Checkpoint, how: Quantization | None = None, **about: object
) -> Path:
    """Our layout, one file a network; with ``how`` the transformer's large layers quantised."""
    found: dict[str, Tensors] = defaultdict(dict)
    for key, tensor in tensors_of(checkpoint).items():
        for component, name in places(key):
            found[component.folder][name] = tensor
    if how is not None:
        found[TRANSFORMER_FOLDER] = quantised(found[TRANSFORMER_FOLDER], how)
    for component in COMPONENTS:
        config = dict(checkpoint.config.get(component.section or "", {}))
        if component.folder == TRANSFORMER_FOLDER and how is not None:
            config["quantization"] = how._asdict()
        write_json(folder / component.folder / CONFIG, config)
        write_network(folder / component.folder, found[component.folder])
    version = ".".join(map(str, checkpoint.version))
    about = {"model_type": MODEL_TYPE, "model_version": version} | about
    if "scheduler" in checkpoint.config:
        about["scheduler"] = checkpoint.config["scheduler"]
    write_json(folder / CONFIG, about)
    return folder


def quantised(tensors: Mapping[str, mx.array], how: Quantization) -> Tensors:
    found = dict(tensors)
    for name, tensor in tensors.items():
        path = name.removesuffix(".weight")
        if path != name and is_quantised(path, tensor.shape, how):
            whole = tensor.astype(mx.float32)
            parts = mx.quantize(whole, group_size=how.group_size, bits=how.bits, mode=how.mode)
            names = (f"{path}.{each}" for each in ("weight", "scales", "biases"))
            found |= dict(zip(names, parts, strict=False))
    return found


def write_network(folder: Path, tensors: Mapping[str, mx.array]) -> None:
    """One file, and the index that both mlx-lm and mlx-video write beside it."""
    folder.mkdir(parents=True, exist_ok=True)
    file = "model.safetensors"
    contiguous = {name: mx.contiguous(tensor) for name, tensor in tensors.items()}
    mx.save_safetensors(str(folder / file), contiguous)
    write_json(folder / INDEX, {"metadata": {}, "weight_map": dict.fromkeys(tensors, file)})


def write_json(path: Path, data: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(data))


def change_json(path: Path, change: Callable[[dict], object]) -> None:
    data = json.loads(path.read_text())
    change(data)
    path.write_text(json.dumps(data))


def change_tensors(folder: Path, change: Callable[[Tensors], object]) -> None:
    """Of one network, with an index that says what is there then."""
    tensors = mx.load(str(folder / "model.safetensors"))
    assert isinstance(tensors, dict)
    mx.eval(tensors)
    change(tensors)
    write_network(folder, tensors)


def write_foreign(folder: Path, tensors: Mapping[str, mx.array]) -> Path:
    """The layout of mlx-video from a checkpoint's tensors by key."""
    found: dict[str, Tensors] = defaultdict(dict)
    for key, tensor in tensors.items():
        for network, name, axes in foreign_places(key, tensor.ndim):
            cast = tensor.astype(mx.bfloat16) if network == TRANSFORMER_FOLDER else tensor
            found[network][name] = cast.transpose(axes)
    for network, own in found.items():
        write_network(folder / network, own)
    (folder / "text_projections" / INDEX).unlink()
    write_foreign_configs(folder)
    return folder


def write_foreign_configs(folder: Path) -> None:
    """As mlx-video writes them: of the networks' sizes they have less than is needed."""
    about = {"model_type": "ltx av model", "num_layers": 48, "rope_type": "split"}
    write_json(folder / TRANSFORMER_FOLDER / CONFIG, about)
    for network in ("vae/encoder", "vae/decoder", "audio_vae/encoder", "audio_vae/decoder"):
        write_json(folder / network / CONFIG, {"ch": 128, "timestep_conditioning": False})
    write_json(folder / "vocoder" / CONFIG, {"type": "bigvgan", "has_bwe_generator": True})


def foreign_places(key: str, num_axes: int) -> list[tuple[str, str, Sequence[int]]]:
    """Where mlx-video puts a tensor: networks, its name there, the order of its axes."""
    found = []
    for component, name in places(key):
        if name.endswith(DROPPED):
            continue
        axes = _mlx_axes(component.folder, name, num_axes)
        found.append((component.folder, _foreign_name(component.folder, name), axes))
    return found


def _mlx_axes(folder: str, name: str, ndim: int) -> tuple[int, ...]:
    if "vae" in folder and "conv" in name and "weight" in name and ndim > 3:
        return (0, *range(2, ndim), 1)
    if folder == "vocoder" and "weight" in name and ndim == 3:
        return (1, 2, 0) if "ups" in name else (0, 2, 1)
    return tuple(range(ndim))


def _foreign_name(folder: str, name: str) -> str:
    if "per_channel_statistics" in name:
        said = name.replace("-", "_")
        return said.replace("_of_means", "") if folder.startswith("vae") else said
    if folder == "vae/decoder" and ".conv.conv." not in name:
        return name.replace(".conv.weight", ".conv.conv.weight").replace(
            ".conv.bias", ".conv.conv.bias"
        )
    if folder in (TRANSFORMER_FOLDER, "text_projections"):
        name = name.removeprefix("text_embedding_projection.").replace(".to_out.0.", ".to_out.")
        name = name.replace("ff.net.0.proj.", "ff.proj_in.").replace("ff.net.2.", "ff.proj_out.")
    if folder == TRANSFORMER_FOLDER:
        name = name.replace(".linear_1.", ".linear1.").replace(".linear_2.", ".linear2.")
    return name
