"""The page of an adapter on the hub: what it is, what it makes, and how it is used."""

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path

import yaml

from ltx_train.config import TrainConfig
from ltx_train.output.facts import Facts
from ltx_train.output.layout import SAMPLES, MadeSample
from ltx_train.output.metadata import conditions_of, lora_of, streams_of, title_of

LICENSE = {
    "license": "other",
    "license_name": "ltx-2-community-license-agreement",
    "license_link": "https://github.com/Lightricks/LTX-2/blob/main/LICENSE",
}
BASES = {"2.0": "Lightricks/LTX-2", "2.3": "Lightricks/LTX-2.3"}  # by the version's beginning
TAGS = ("ltx-2", "ltx-video", "audio-video", "comfyui")
# What ltx-generate is given in place of a condition of training.
FLAGS: Mapping[str, str] = {
    "video first_frame": "--image first.png",
    "video prefix": "--prefix-video before.mp4",
    "video suffix": "--suffix-video after.mp4",
    "video spatial_crop": "--video clip.mp4 --pad 64,64,64,64",
    "video mask": "--video clip.mp4 --mask mask.png",
    "video reference": "--pipeline ic-lora --video-conditioning reference.mp4",
    "audio reference": "--reference-audio voice.wav",
}
PROMPT = "waves break on a beach at dusk"
NAMES = {"video": "picture", "audio": "sound"}


def model_card(
    config: TrainConfig, facts: Facts, *, step: int, weights: Path, samples: Sequence[MadeSample]
) -> str:
    """The card, README.md, in Markdown with its front matter (spec/mlx.md 4.2).

    ``samples`` are those of one step; they lie in the folder ``samples`` beside it. No path of
    this machine is in it.
    """
    prompts = {number: one.prompt for number, one in enumerate(config.validation.samples, 1)}
    front = yaml.safe_dump(
        _front_matter(config, facts, samples, prompts), sort_keys=False, allow_unicode=True
    )
    parts = [
        f"---\n{front}---",
        f"# {title_of(config)}",
        _lead(config, facts),
        _gallery(samples, prompts, step=step),
        _usage(config, facts, weights),
        _settings(config, facts, step=step),
        _license(facts),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _front_matter(
    config: TrainConfig,
    facts: Facts,
    samples: Sequence[MadeSample],
    prompts: Mapping[int, str],
) -> dict[str, object]:
    task = _task(config)
    is_lora = lora_of(config) is not None
    widget = [
        {"text": prompts[one.number], "output": {"url": f"{SAMPLES}/{one.path.name}"}}
        for one in samples
        if one.number in prompts
    ]
    about = {
        **LICENSE,
        "base_model": _base(facts),
        "base_model_relation": "adapter" if is_lora else "finetune",
        "library_name": "mlx",
        "pipeline_tag": task,
        "tags": [*TAGS, task, *(["lora"] if is_lora else [])],
        "instance_prompt": facts.trigger,
        "widget": widget,
    }
    return {key: value for key, value in about.items() if value}


def _lead(config: TrainConfig, facts: Facts) -> str:
    kind = "A LoRA" if lora_of(config) else "A fine-tune"
    streams = streams_of(config)
    made = " and ".join(NAMES[name] for name, one in streams.items() if one.is_generated)
    given = " and ".join(NAMES[name] for name, one in streams.items() if not one.is_generated)
    lines = [
        f"{kind} for LTX-{_version(facts)}, trained on {made}{f' to {given}' if given else ''}."
    ]
    if conditions := conditions_of(config):
        named = ", ".join(sorted({one.split()[1].replace("_", " ") for one in conditions}))
        lines.append(f"It was shown with: {named}.")
    if facts.trigger:
        lines.append(f"Put **{facts.trigger}** into the prompt: it stands for what was learnt.")
    return " ".join(lines)


def _gallery(samples: Sequence[MadeSample], prompts: Mapping[int, str], *, step: int) -> str:
    if not samples:
        return ""
    shown = [
        f"> {prompts.get(one.number, f'sample {one.number}')}\n\n{_player(one)}" for one in samples
    ]
    said = f"Made at step {samples[0].step} of {step}, with the settings of `ltx-train`."
    return "\n\n".join(["## Samples", said, *shown])


def _player(one: MadeSample) -> str:
    url = f"{SAMPLES}/{one.path.name}"
    if one.path.suffix == ".png":
        return f"![{one.path.stem}]({url})"
    tag = "audio" if one.path.suffix == ".wav" else "video"
    return f'<{tag} controls loop src="{url}"></{tag}>'


def _usage(config: TrainConfig, facts: Facts, weights: Path) -> str:
    prompt = shlex.quote(f"{facts.trigger}, {PROMPT}" if facts.trigger else PROMPT)
    if lora_of(config) is None:
        command = f"ltx-generate --model {weights.name} --prompt {prompt}"
        place = f"Put `{weights.name}` into `ComfyUI/models/checkpoints` and load it as LTX-2."
    else:
        command = f"ltx-generate --model MODEL --lora {weights.name} --prompt {prompt}"
        place = (
            f"Put `{weights.name}` into `ComfyUI/models/loras` and load it with "
            "*LoraLoaderModelOnly* between the checkpoint and the sampler, at strength 1."
        )
    flags = " ".join([command, *_flags(config)])
    factors = (
        f" References are {facts.reference.spatial} times smaller than the clip; the file says so."
        if facts.reference.spatial != 1
        else ""
    )
    return (
        f"## How to use it\n\nWith ltx-mlx:\n\n```sh\n{flags}\n```\n\nIn ComfyUI: {place}{factors}"
    )


def _flags(config: TrainConfig) -> list[str]:
    """What a run of ltx-generate is given beside the prompt, for what was trained."""
    streams = streams_of(config)
    names = {" ".join(one.split()[:2]) for one in conditions_of(config)}
    flags = [flag for name, flag in FLAGS.items() if name in names]
    video, audio = streams.get("video"), streams.get("audio")
    if video is None:
        flags.append("--pipeline t2a -o out.wav")
    elif not video.is_generated:
        flags.append("--pipeline retake --video clip.mp4 --keep video")
    elif audio is not None:
        flags.append("--audio" if audio.is_generated else "--audio-file sound.wav")
    return flags


def _settings(config: TrainConfig, facts: Facts, *, step: int) -> str:
    optimization = config.optimization
    sizes = ", ".join(f"{size} ({count})" for size, count in facts.sizes.items())
    rows: list[tuple[str, object]] = [
        ("base", f"{facts.base_file}{f' ({facts.variant})' if facts.variant else ''}"),
        ("steps", f"{step} of {optimization.steps}"),
        ("batch", optimization.batch_size * optimization.gradient_accumulation_steps),
        ("learning rate", f"{optimization.learning_rate:g}, {optimization.scheduler_type}"),
        ("noise levels", config.flow_matching.timestep_sampling_mode),
        ("conditions", ", ".join(conditions_of(config)) or "none"),
        ("samples", f"{len(facts.captions) - len(facts.held_out)}: {sizes}"),
        ("quantised base", config.acceleration.quantization or facts.stored or "no"),
        ("seed", config.seed),
    ]
    if (lora := lora_of(config)) is not None:
        rows.insert(1, ("rank, alpha", f"{lora.rank}, {lora.alpha:g} (folded in)"))
        if lora.quantization_aware:
            rows.insert(2, ("trained for", "being fused into the quantised base"))
        rows.insert(2, ("layers", ", ".join(f"`{target}`" for target in lora.target_modules)))
    if optimization.ema_decay is not None:
        rows.append(("average of the weights", f"decay {optimization.ema_decay:g}; this is it"))
    lines = [f"| {name} | {str(value).replace('|', '&#124;')} |" for name, value in rows]
    return "\n".join(["## Training", "", "| | |", "|---|---|", *lines])


def _license(facts: Facts) -> str:
    return (
        "## Licence\n\n"
        f"What is derived from LTX-{_version(facts)}, as this is, stays under the "
        f"[LTX-2 Community License Agreement]({LICENSE['license_link']}). Read it before you use "
        "or pass on these weights or what they make."
    )


def _task(config: TrainConfig) -> str:
    """The hub's name for what it does."""
    streams = streams_of(config)
    if "video" not in streams or not streams["video"].is_generated:
        return "text-to-audio"
    kinds = {one.split()[1] for one in conditions_of(config) if one.startswith("video")}
    if kinds & {"reference", "mask", "spatial_crop", "prefix", "suffix"}:
        return "video-to-video"
    return "image-to-video" if "first_frame" in kinds else "text-to-video"


def _version(facts: Facts) -> str:
    """Its first two numbers, 2 for 2.0."""
    return ".".join(facts.base_version.split(".")[:2]).removesuffix(".0")


def _base(facts: Facts) -> str | None:
    return BASES.get(".".join(facts.base_version.split(".")[:2]))
