"""What a LoRA file says of itself: its metadata, and the files that some programs put beside it."""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, TypeGuard

from ltx_models.config import as_object, parse_object, read_object
from ltx_models.errors import printable
from ltx_models.lora.entries import Scaling
from ltx_models.lora.keys import LoRAError
from ltx_models.weights import TensorFile

# Names under which one fact stands in the metadata; trainers of kohya's family put ss_ in front.
SPATIAL_FACTOR = ("reference_downscale_factor", "reference_spatial_scale_factor")
TEMPORAL_FACTOR = ("reference_temporal_scale_factor",)
AT_CLIP = "clip"  # of reference_audio_positions: reference sounds lie at the clip's own times
BASE_VERSION = ("model_version", "base_model_version")
ARCHITECTURE = ("modelspec.architecture", "base_model", "sd_model_name", "base_model_file", "model")
RSLORA = ("use_rslora", "rslora", "rs_lora")
PEFT_METADATA = "lora_adapter_metadata"  # of diffusers: PEFT's configuration of each component
BESIDE = "adapter_config.json"  # PEFT's, beside adapter_model.safetensors; and mlx-lm's
PEFT_NAME = "adapter_model"
LARGEST = 1e12  # an alpha or a scale; LyCORIS writes 1e10 where it has no meaning
PATTERN = re.compile(r"[\w.\\^$*+-]+")  # names with their dots escaped, and with ".*" in them
MOST_REPEATS = 2
OTHER_MODELS = r"flux|sdxl|sd3|stable.?diffusion|wan|hunyuan|qwen|cogvideo|mochi|z.?image|pixart"


def scalings(file: TensorFile, *, mlx_lm: bool) -> Mapping[str, Scaling]:
    """What is said of scales outside the tensors, by the first part of a key; "" for all others.

    Raises LoRAError for files of mlx-lm without their configuration, and for one that cannot be
    used; ConfigError for one that is no JSON.
    """
    rslora = any(value.lower() in ("true", "1") for value in _said(file, RSLORA).values())
    found = {"": Scaling(rslora=rslora)}
    beside = file.path.parent / BESIDE
    if mlx_lm:
        found[""] = Scaling(scale=_mlx_lm_scale(file.path, beside))
    elif file.path.name.startswith(PEFT_NAME) and beside.is_file():
        found[""] = _peft(read_object(beside), at=str(beside))
    if text := file.metadata.get(PEFT_METADATA):
        at = f"{file.path}: its metadata's {PEFT_METADATA}"
        data = parse_object(text, at=at)
        for component in {key.split(".")[0] for key in data if "." in key}:
            prefix = f"{component}."
            own = {k.removeprefix(prefix): v for k, v in data.items() if k.startswith(prefix)}
            found[component] = _peft(own, at=at)
        if bare := {key: value for key, value in data.items() if "." not in key}:
            found[""] = _peft(bare, at=at)
    return found


def _peft(data: Mapping[str, Any], *, at: str) -> Scaling:
    """PEFT's configuration of LoRA (lora_alpha), LoHa or LoKr (alpha)."""
    alpha, rank = data.get("lora_alpha", data.get("alpha")), data.get("r")
    patterns = [as_object(data.get(key) or {}, at=at) for key in ("alpha_pattern", "rank_pattern")]
    numbers = [alpha, rank, *(value for pattern in patterns for value in pattern.values())]
    ranks = [rank, *patterns[1].values()]
    if not all(value is None or _is_number(value) for value in numbers) or any(
        value is not None and value < 0 for value in ranks
    ):
        raise LoRAError(f"{at}: an alpha or a rank in it is no number")
    for end in {**patterns[0], **patterns[1]}:
        _check_pattern(end, at=at)
    rslora = data.get("use_rslora") or False
    if not isinstance(rslora, bool):
        raise LoRAError(f"{at}: use_rslora is {printable(repr(rslora))}, not true or false")
    return Scaling(alpha, rank, *patterns, rslora=rslora)


def _is_number(value: object) -> TypeGuard[int | float]:
    """Whether it is a number to compute with: finite, and within what a float holds."""
    return isinstance(value, int | float) and abs(value) <= LARGEST


def _check_pattern(end: str, *, at: str) -> None:
    """Raise LoRAError for an expression that is none, or that may search for ever."""
    shown = printable(repr(end), longest=60)
    if not PATTERN.fullmatch(end) or len(re.findall(r"[*+]", end)) > MOST_REPEATS:
        raise LoRAError(f"{at}: the pattern {shown} is more than the name of a layer")
    try:
        re.compile(end)
    except re.error as error:
        raise LoRAError(f"{at}: {shown} is no pattern: {error}") from None


def _mlx_lm_scale(path: Path, beside: Path) -> float:
    if not beside.is_file():
        raise LoRAError(
            f"{path}: its keys are mlx-lm's (lora_a, lora_b), whose scale is in {BESIDE}, "
            "which is not beside it.\nPut it there"
        )
    data = read_object(beside)
    scale = as_object(data.get("lora_parameters", data), at=str(beside)).get("scale")
    if not _is_number(scale):
        shown = printable(repr(scale))
        raise LoRAError(f"{beside}: lora_parameters.scale is {shown}, not a number")
    return float(scale)


class Made(NamedTuple):
    """What a file was made for, by its own words."""

    words: str
    version: tuple[int, ...]  # of LTX: (0,) is LTX-Video, (2,) any LTX-2; () is no LTX at all


def made_for(metadata: Mapping[str, str]) -> Made | None:
    """The model that metadata names; None where nothing that is said is understood."""
    for keys, bare in ((BASE_VERSION, True), (ARCHITECTURE, False)):
        for key in _with_ss(keys):
            said = metadata.get(key, "")
            version = _version(said, bare=bare)
            if version is not None:
                return Made(said, version)
    return None


def other_generation(metadata: Mapping[str, str], version: tuple[int, ...]) -> str | None:
    """A line that says so where metadata names another model than this version of LTX-2.

    Names of keys and sizes are the same in 2.0, 2.3 and 2.5, so nothing else can tell.
    """
    made = made_for(metadata)
    if made is None or (made.version and made.version == version[: len(made.version)]):
        return None
    return (
        f"made for {printable(made.words, longest=60)} by its metadata, and this model is LTX-"
        f"{'.'.join(map(str, version[:2]))}: it may do little or harm"
    )


def _version(said: str, *, bare: bool) -> tuple[int, ...] | None:
    """(2, 3) of "ltx-2.3-22b" or, where a ``bare`` version may be, of "2.3.0"; None: no model."""
    text = said.lower()
    if bare and (match := re.fullmatch(r"v?(\d{1,9}(?:\.\d{1,9})*)(?:[-_+].*)?", text)):
        numbers = tuple(int(part) for part in match[1].split("."))
        return numbers[:2] if numbers[0] else (0,)
    if re.search(r"ltx[-_ ]?video|ltxv(?!\d|[-_]?2)", text):
        return (0,)
    if match := re.search(r"ltx(?:av|v)?[-_ ]?v?(\d)(?:[._](\d{1,9}))?(.*)", text):
        major, minor, rest = int(match[1]), match[2], match[3]
        if major == 0:
            return (0,)
        if minor is None:  # the first is the one of 19 billion weights
            return (2, 0) if "19b" in rest else (major,)
        return (major, int(minor))
    return () if re.search(rf"(?<![a-z])({OTHER_MODELS})", text) else None


def factor(file: TensorFile, names: Iterable[str]) -> int:
    """A whole number from 1 up; 1 where nothing is said. Raises LoRAError for another."""
    said = _said(file, names)
    if len(set(said.values())) > 1:
        values = printable(", ".join(f"{key} {value!r}" for key, value in said.items()))
        raise LoRAError(f"{file.path}: its metadata contradicts itself: {values}")
    for key, value in said.items():
        if not re.fullmatch(r"0{0,9}[1-9]\d{0,3}(\.0{0,9})?", value, re.ASCII):
            shown = printable(repr(value), longest=60)
            raise LoRAError(f"{file.path}: {key} is {shown}; 1, 2, 3, ... would fit")
    return int(float(next(iter(said.values()), "1")))


def _with_ss(names: Iterable[str]) -> list[str]:
    return [key for name in names for key in (name, f"ss_{name}")]


def _said(file: TensorFile, names: Iterable[str]) -> dict[str, str]:
    """What the metadata says under any of the names, with or without ss_."""
    return {key: file.metadata[key] for key in _with_ss(names) if key in file.metadata}
