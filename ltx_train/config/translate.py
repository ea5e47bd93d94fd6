"""A file written for the public trainer, in the terms of the schema here.

What only CUDA has becomes what MLX has instead, and older forms the one that is acted upon: one
line each says so. What has no equivalent is a problem.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

from ltx_train.config import public
from ltx_train.config.problems import validate

QUANTIZATIONS = {
    "int8-quanto": "affine-8bit",
    "int4-quanto": "affine-4bit",
    "int2-quanto": "affine-2bit",
    "fp8-quanto": "mxfp8",
    "fp8uz-quanto": "mxfp8",
}
SAID = {
    "optimizer_type": "adamw8bit -> AdamW in float32: 8-bit states need CUDA",
    "load_text_encoder_in_8bit": "nothing to do: no text encoder is in memory during training",
    "offload_optimizer_during_validation": "nothing to do: one memory serves CPU and GPU",
    "num_dataloader_workers": "nothing to do: samples are read from the cache as they are needed",
}


class Translated(NamedTuple):
    """The file's data in our terms; what was changed; what cannot be, one line each."""

    data: dict[str, Any]
    notes: list[str]
    problems: list[str]


def translate(given: Mapping[str, Any]) -> Translated:
    """Bring a file's data, sections of plain values, into the schema's terms."""
    data = {key: dict(value) if isinstance(value, dict) else value for key, value in given.items()}
    done = Translated(data, [], [])
    _strategy(done, _section(data, "model").get("training_mode"))
    read = {name: _take(done, name) for name in public.KEYS}
    for name, keys in read.items():
        if isinstance(keys, public.ValidationKeys):
            _guidance(done, keys)
            _samples(done, keys)
        elif isinstance(keys, public.ModelKeys):
            _one_file(done, keys)
        elif keys is not None:
            asked = keys.model_dump(exclude_defaults=True)
            done.notes.extend(f"{name}.{key}: {SAID[key]}" for key in asked)
    _numbers(done)
    _adapter(done)
    return done


def _section(data: Mapping[str, Any], name: str) -> dict[str, Any]:
    """A section, or an empty one where there is none to look into."""
    section = data.get(name)
    return section if isinstance(section, dict) else {}


def _take(done: Translated, name: str) -> Any:
    """The public trainer's own keys of a section, which are taken out of it; None: wrong."""
    section, kind = _section(done.data, name), public.KEYS[name]
    keys = {key: section.pop(key) for key in kind.model_fields if key in section}
    return validate(kind, keys, done.problems, at=name)


def _strategy(done: Translated, training_mode: object) -> None:
    """A legacy strategy, which is also what no strategy means, as the flexible one."""
    given = done.data.get("training_strategy", {})
    if not isinstance(given, dict) or ("name" not in given and given.keys() & {"video", "audio"}):
        return
    name = given.get("name", "text_to_video")
    kind = public.STRATEGIES.get(name) if isinstance(name, str) else None
    if kind is None:
        return
    old = validate(kind, given, done.problems, at="training_strategy")
    new: dict[str, Any] = {"name": "flexible", "shared_sigma": True, "video": {}}
    done.data["training_strategy"] = new
    if old is None:
        return
    conditions: list[dict[str, Any]] = []
    if isinstance(old, public.VideoToVideo):
        conditions.append({"type": "reference", "latents_dir": old.reference_latents_dir})
        _check_references(done, training_mode)
    elif old.with_audio:
        new["audio"] = {"latents_dir": old.audio_latents_dir}
    if old.first_frame_conditioning_p:
        probability = old.first_frame_conditioning_p
        conditions.append({"type": "first_frame", "probability": probability})
    new["video"] = {"conditions": conditions}
    done.notes.append(f"training_strategy: {name} -> flexible, with one noise level for all")


def _check_references(done: Translated, training_mode: object) -> None:
    if training_mode == "full":
        done.problems.append("model.training_mode: video_to_video trains a LoRA, not full weights")
    validation = _section(done.data, "validation")
    samples = validation.get("samples") or ()
    conditions = [
        condition
        for sample in (samples if isinstance(samples, list) else ())
        for condition in (_section({"sample": sample}, "sample").get("conditions") or ())
    ]
    kinds = [each.get("type") for each in conditions if isinstance(each, dict)]
    made = samples or validation.get("prompts")
    has_one = "reference" in kinds or validation.get("reference_videos")
    if made and validation.get("interval", 1) and not has_one:
        done.problems.append(
            "validation.samples: video_to_video needs one with a condition of type reference"
        )


def _one_file(done: Translated, keys: public.ModelKeys) -> None:
    whole = _section(done.data, "model").get("model_path")
    for key in public.ModelKeys.model_fields:
        if getattr(keys, key) not in (None, whole):
            done.problems.append(
                f"model.{key}: only models in one piece are trained here; "
                "model.model_path names the whole checkpoint"
            )


def _numbers(done: Translated) -> None:
    """Values of keys that are kept."""
    acceleration = _section(done.data, "acceleration")
    asked = acceleration.get("quantization")
    if isinstance(asked, str) and asked in QUANTIZATIONS:
        acceleration["quantization"] = QUANTIZATIONS[asked]
        done.notes.append(f"acceleration.quantization: {asked} -> {QUANTIZATIONS[asked]}")
    if "mixed_precision_mode" in acceleration:
        mode = acceleration["mixed_precision_mode"]
        if mode is False:  # YAML's own reading of the word no
            acceleration["mixed_precision_mode"] = "no"
        elif mode in (None, "fp16"):
            acceleration["mixed_precision_mode"] = "bf16"
            said = "null" if mode is None else f"{mode}"
            done.notes.append(
                f"acceleration.mixed_precision_mode: {said} -> bf16, whose range needs no scaling"
            )
    checkpoints = _section(done.data, "checkpoints")
    if checkpoints.get("keep_last_n") == 0:
        checkpoints["keep_last_n"] = -1
        done.notes.append("checkpoints.keep_last_n: 0 -> -1: all are kept")


def _adapter(done: Translated) -> None:
    """A run that trains all weights has no use for an adapter's section."""
    model = _section(done.data, "model")
    if model.get("training_mode") == "full" and done.data.get("lora") is not None:
        done.notes.append("lora: not used, as model.training_mode is full")
        done.data["lora"] = None


def _guidance(done: Translated, keys: public.ValidationKeys) -> None:
    """One scale for both streams, as one for each."""
    section = _section(done.data, "validation")
    new: dict[str, Any] = {}
    if keys.guidance_scale is not None:
        new |= dict.fromkeys(("video_cfg_scale", "audio_cfg_scale"), keys.guidance_scale)
        _check_unmixed(done, "guidance_scale", "cfg_scale")
    if keys.stg_scale is not None or keys.stg_mode is not None:
        scale = 1.0 if keys.stg_scale is None else keys.stg_scale
        new["video_stg_scale"] = scale
        new["audio_stg_scale"] = 0.0 if keys.stg_mode == "stg_v" else scale
        _check_unmixed(done, "stg_scale" if keys.stg_mode is None else "stg_mode", "stg_scale")
    if new:
        section.update(new)
        said = ", ".join(f"{key} {value:g}" for key, value in new.items())
        done.notes.append(f"validation: older names of guidance -> {said}")


def _check_unmixed(done: Translated, old: str, new: str) -> None:
    section = _section(done.data, "validation")
    both = [key for key in (f"video_{new}", f"audio_{new}") if key in section]
    if both:
        done.problems.append(f"validation.{old}: an older name, which does not go with {both[0]}")


def _samples(done: Translated, keys: public.ValidationKeys) -> None:
    """Prompts, and the files that go with them one by one, as samples."""
    section = _section(done.data, "validation")
    if not keys.prompts:
        idle = public.ValidationKeys()
        done.notes.extend(
            f"validation.{key}: not used, as there are no prompts that it goes with"
            for key in ("reference_downscale_factor", "include_reference_in_output")
            if getattr(keys, key) != getattr(idle, key)
        )
        return
    if section.get("samples"):
        done.notes.append("validation.prompts: not used, as there are samples")
        return
    samples: list[dict[str, Any]] = [{"prompt": p, "conditions": []} for p in keys.prompts]
    for sample, image in zip(samples, keys.images or (), strict=False):
        sample["conditions"].append({"type": "first_frame", "image_or_video": image})
    for sample, video in zip(samples, keys.reference_videos or (), strict=False):
        reference = {
            "type": "reference",
            "video": video,
            "downscale_factor": keys.reference_downscale_factor,
            "include_in_output": keys.include_reference_in_output,
        }
        sample["conditions"].append(reference)
    section["samples"] = samples
    done.notes.append(f"validation.prompts -> {len(samples)} validation.samples")
