"""The flags of ltx-precompute, as data; what cannot be asked for together.

A flag's first name is its field in ``PrecomputeConfig``, where its default is.
"""

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from ltx_models.errors import UserError

MOST = 1000  # frames a second


class Flag(NamedTuple):
    """One flag; ``kwargs`` are argparse's."""

    names: tuple[str, ...]
    help: str
    kwargs: dict[str, Any]

    @property
    def field(self) -> str:
        """Of ``PrecomputeConfig``."""
        return self.names[0].removeprefix("--").replace("-", "_")


def _flag(*names: str, help: str, **kwargs: Any) -> Flag:  # noqa: A002  (argparse's word)
    return Flag(names, help, kwargs)


def _switch(name: str, *, help: str) -> Flag:  # noqa: A002
    return Flag((name,), help, {"action": "store_true"})


def _folder(name: str, *, help: str) -> Flag:  # noqa: A002
    return Flag((name,), help, {"type": _path, "metavar": "DIR"})


def _path(text: str) -> Path:
    return Path(text).expanduser()


def _factor(text: str) -> int:
    if not (text.isascii() and text.isdigit() and int(text)):
        raise argparse.ArgumentTypeError(f"{text}: a whole number from 1 on would fit")
    return int(text)


def _rate(text: str) -> float:
    try:
        rate = float(text)
    except ValueError:
        rate = 0.0
    if not 1 <= rate <= MOST:
        raise argparse.ArgumentTypeError(f"{text}: 1 to {MOST} frames a second would fit")
    return rate


GROUPS: dict[str, tuple[Flag, ...]] = {
    "what to encode": (
        _folder(
            "--input-dir", help="clips and stills, in subfolders too, clip.txt beside clip.mp4"
        ),
        _flag(
            "--prompts-file",
            type=_path,
            metavar="FILE",
            help="captions: .txt (name|caption, or one a line), .csv, .json, .jsonl",
        ),
        _flag(
            "--dataset",
            metavar="NAME",
            help="a datasets repository or folder, in place of --input-dir",
        ),
        _flag("--video-column", metavar="NAME", help="of the clips (video, media_path, image)"),
        _flag("--caption-column", metavar="NAME", help="of the captions (caption)"),
        _folder("--reference-dir", help="references for an IC-LoRA, by the clips' names"),
        _folder("--reference-audio-dir", help="reference sounds, likewise"),
        _folder("--video-mask-dir", help="masks of the picture, likewise"),
        _folder("--audio-mask-dir", help="masks of the sound, likewise"),
    ),
    "how": (
        Flag(
            ("--output-dir",),
            "what data.preprocessed_data_root of ltx-train names",
            {"type": _path, "metavar": "DIR", "required": True},
        ),
        _flag(
            "--resolution-buckets",
            metavar='"WxHxF;..."',
            help="sizes and frames; each clip is brought to the one nearest to it in shape",
        ),
        _flag(
            "--fps",
            "--frame-rate",
            type=_rate,
            metavar="RATE",
            help="frames a second of all clips (each keeps its own)",
        ),
        _flag(
            "--crop",
            "--reshape-mode",
            choices=("center", "random"),
            help="what is cut where shapes differ (center)",
        ),
        _switch("--with-audio", help="encode the sound too"),
        _flag(
            "--reference-downscale-factor",
            type=_factor,
            metavar="N",
            help="references have an Nth of the rows and columns (1)",
        ),
        _flag(
            "--reference-temporal-scale-factor",
            type=_factor,
            metavar="N",
            help="references have an Nth of the frames (1)",
        ),
    ),
    "captions": (
        _switch("--caption", help="write the captions that are missing"),
        _flag(
            "--caption-backend",
            choices=("mlx", "transformers"),
            help="mlx, or transformers on torch",
        ),
        _flag("--caption-model", metavar="NAME", help="a vision-language model"),
        _flag("--caption-prompt", "--instruction", metavar="TEXT", help="what it is asked"),
        _flag("--trigger", "--lora-trigger", metavar="WORD", help="put in front of every caption"),
        _switch("--prompts-only", help="text features of --prompts-file, for --embedding"),
        _flag("--negative-prompt", metavar="TEXT", help="beside each prompt of --prompts-only"),
    ),
    "model": (
        _flag(
            "--model",
            "--model-repo",
            "--model-path",
            "--weights",
            metavar="MODEL",
            help="as of ltx-generate: user/repo, a folder, a .safetensors checkpoint, tiny",
        ),
        _flag(
            "--text-encoder-repo",
            "--gemma-root",
            "--text-encoder-path",
            type=_path,
            metavar="DIR",
            help="folder or user/repo of a Gemma 3 (the model's own, else by memory)",
        ),
        _flag(
            "--allow-unknown-config",
            action="append",
            metavar="KEY",
            help="pass over this key of the checkpoint's configuration; repeatable",
        ),
    ),
    "the run": (
        _switch("--dry-run", help="say what was understood of each clip, and write nothing"),
        _switch("--preview", help="write preview.html: each clip beside what its latents hold"),
        _switch("--overwrite", help="encode anew what is there and has not changed"),
        _switch("--debug", help="list every clip at the end, and show where an error came from"),
    ),
}


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Add every flag; what is not given is not in the result."""
    for title, flags in GROUPS.items():
        group = parser.add_argument_group(title)
        for flag in flags:
            group.add_argument(
                *flag.names, help=flag.help, default=argparse.SUPPRESS, **flag.kwargs
            )


Given = Mapping[str, Any]
TEXT_ONLY = {
    "prompts_only",
    "prompts_file",
    "output_dir",
    "caption_column",
    "negative_prompt",
    "trigger",
    "model",
    "text_encoder_repo",
    "allow_unknown_config",
    "overwrite",
    "debug",
}
# A flag, what of its kind it needs one of, and why.
NEEDS: tuple[tuple[tuple[str, ...], tuple[str, ...], str], ...] = (
    (("caption_backend", "caption_model", "caption_prompt"), ("caption",), "for --caption"),
    (("negative_prompt",), ("prompts_only",), "for --prompts-only"),
    (("video_column", "caption_column"), ("prompts_file", "dataset"), "of a table"),
    (
        ("reference_downscale_factor", "reference_temporal_scale_factor"),
        ("reference_dir", "prompts_file", "dataset"),
        "of references",
    ),
    (("audio_mask_dir",), ("with_audio",), "masks of latents that are not made"),
)
NOT_TOGETHER = (
    ("dataset", "input_dir", "it takes the place of the folder"),
    ("dataset", "prompts_file", "its captions are in its tables"),
)


def check_together(given: Given) -> None:
    """Raise UserError for flags that mean nothing together, or without another."""
    for check in (_check_text_only, _check_needs, _check_pairs, _check_values):
        check(given)


def _name(field: str) -> str:
    return f"--{field.replace('_', '-')}"


def _names(fields: tuple[str, ...], word: str) -> str:
    return f" {word} ".join(map(_name, fields))


def _check_text_only(given: Given) -> None:
    if "prompts_only" in given:
        strange = [field for field in given if field not in TEXT_ONLY]
        if strange:
            names = ", ".join(map(_name, strange))
            raise UserError(f"--prompts-only does not go with {names}: there are prompts alone")
        if "prompts_file" not in given:
            raise UserError("--prompts-only: the prompts are in a --prompts-file FILE")
        return
    if not given.keys() & {"input_dir", "prompts_file", "dataset"}:
        raise UserError(
            "name what to encode: --input-dir DIR, --dataset NAME or --prompts-file FILE"
        )
    if "resolution_buckets" not in given:
        raise UserError(
            "the following arguments are required: --resolution-buckets, as 832x480x73 (width, "
            "height, frames)"
        )


def _check_needs(given: Given) -> None:
    for fields, needed, what in NEEDS:
        for field in fields:
            if field in given and not any(name in given for name in needed):
                raise UserError(f"{_name(field)}: {what}; it needs {_names(needed, 'or')}")


def _check_pairs(given: Given) -> None:
    for first, second, why in NOT_TOGETHER:
        if first in given and second in given:
            raise UserError(f"{_name(first)} does not go with {_name(second)}: {why}")


def _check_values(given: Given) -> None:
    if not given.get("trigger", "x").strip():
        raise UserError("--trigger: it is empty; a word is wanted")
    for field in ("caption_prompt", "caption_model", "dataset", "model"):
        if not given.get(field, "x").strip():
            raise UserError(f"{_name(field)}: it is empty")
    fewer = given.get("reference_temporal_scale_factor", 1)
    if fewer > 1 and len(given["resolution_buckets"]) > 1:
        raise UserError(
            f"--reference-temporal-scale-factor {fewer}: it needs a single bucket, and "
            f"--resolution-buckets has {len(given['resolution_buckets'])}"
        )
