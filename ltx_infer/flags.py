"""The flags of ltx-generate, as data: which names, which kind of value, what they are for.

A flag's first name is its field in ``GenerateConfig``, where its default is; nothing here has one.
"""

import argparse
from typing import Any, NamedTuple


class Flag(NamedTuple):
    """One flag; ``kwargs`` are argparse's."""

    names: tuple[str, ...]
    help: str
    kwargs: dict[str, Any]


def _flag(*names: str, help: str, **kwargs: Any) -> Flag:  # noqa: A002  (argparse's word)
    return Flag(names, help, kwargs)


def _several(*names: str, metavar: str, help: str) -> Flag:  # noqa: A002
    return Flag(names, help, {"nargs": "+", "action": "append", "metavar": (metavar, "...")})


GROUPS: dict[str, tuple[Flag, ...]] = {
    "what to make": (
        _flag("--prompt", "-p", help="what the clip shows; also as the first word"),
        _flag("--prompts-file", metavar="FILE", help="a clip for each line; models load once"),
        _flag("--count", type=int, metavar="N", help="clips of N seeds, one after the other (1)"),
        _flag(
            "--enhance-prompt",
            action="store_true",
            help="let Gemma write the prompt out in detail first",
        ),
        _flag(
            "--pipeline",
            metavar="NAME",
            help="distilled (default), dev, dev-two-stage, dev-two-stage-hq, keyframe, ic-lora, "
            "t2a (sound only), retake, extend",
        ),
        _flag("--height", "-H", type=int, metavar="N", help="pixel rows (512)"),
        _flag("--width", "-W", type=int, metavar="N", help="pixel columns (512)"),
        _flag(
            "--num-frames",
            "-n",
            "--frames",
            type=int,
            metavar="N",
            help="a multiple of 8 plus 1 (33)",
        ),
        _flag("--fps", "--frame-rate", type=float, metavar="RATE", help="frames a second (24)"),
        _flag("--seed", "-s", type=int, metavar="N", help="same seed, same clip (42)"),
        _flag("--audio", "-a", action="store_true", help="make sound too"),
        _flag("--output-audio", metavar="FILE", help="the sound as a .wav too"),
        _flag("--save-frames", action="store_true", help="every frame as a PNG too, in a folder"),
        _flag("--preview", action="store_true", help="a contact sheet with the waveform too"),
        _flag(
            "--output-path",
            "--output",
            "-o",
            metavar="FILE",
            help="clip to write: .mp4 or .mov, .wav for t2a (output.mp4)",
        ),
        _flag(
            "--auto-output-name",
            action="store_true",
            help="name clips after prompt and seed, in the folder that --output-path names",
        ),
    ),
    "repeat": (
        _flag("--from", metavar="CLIP", help="as this clip was made; other flags change it"),
        _flag("--info", metavar="FILE", help="say what a clip, adapter or model is, and end"),
    ),
    "model": (
        _flag(
            "--model",
            "--model-repo",
            "--weights",
            metavar="MODEL",
            help="user/repo of the hub, a folder, a .safetensors checkpoint, an alias, or tiny "
            "(Lightricks/LTX-2)",
        ),
        _flag(
            "--checkpoint-path",
            "--checkpoint",
            metavar="FILE",
            help="this checkpoint; the rest from --model, else from beside it or its repository",
        ),
        _flag(
            "--text-encoder-repo",
            "--gemma-root",
            "--text-encoder-path",
            metavar="DIR",
            help="folder or user/repo of a Gemma 3 (the model's own; else the 4bit one of "
            "mlx-community, from 40 GB of memory 8bit, from 80 GB bf16)",
        ),
        _flag(
            "--embedding",
            metavar="FILE",
            help="an encoded prompt, as ltx-precompute --prompts-only makes them; no Gemma",
        ),
        _flag(
            "--dummy-embeddings",
            action="store_true",
            help="random numbers for an encoded prompt, to test without Gemma",
        ),
        _flag("--token", metavar="TOKEN", help="for the hub, in place of HF_TOKEN"),
        _flag(
            "--spatial-upscaler",
            "--spatial-upsampler-path",
            metavar="NAME",
            help="x2-1.0, x2-1.1, x1.5-1.0 or a file (newest x2 in the model's folder)",
        ),
        _flag("--temporal-upscale", action="store_true", help="twice the frames in the same time"),
        _flag("--quantize", "-q", type=int, metavar="BITS", help="quantise at load: 4, 6 or 8"),
        _flag(
            "--allow-unknown-config",
            action="append",
            metavar="KEY",
            help="pass over this key of the checkpoint's configuration; repeatable",
        ),
    ),
    "memory": (
        _flag(
            "--low-memory",
            action="store_true",
            help="read the transformer's blocks from disk in each step, two at a time",
        ),
        _flag(
            "--tiling",
            metavar="HOW",
            help="decode in tiles: auto (default), none, conservative, aggressive",
        ),
        _flag("--stream", action="store_true", help="encode frames while later ones decode"),
        _flag(
            "--dry-run",
            action="store_true",
            help="say which files, how many tokens and passes, and the memory expected, and end",
        ),
        _flag("--force", action="store_true", help="begin also where the memory seems too small"),
    ),
    "sampling": (
        _flag("--steps", "--num-inference-steps", type=int, metavar="N", help="30, HQ 15"),
        _flag("--one-stage", action="store_true", help="sample at full size, no second stage"),
        _flag("--skip-stage-2", action="store_true", help="stop after the half-size stage"),
        _flag("--negative-prompt", metavar="TEXT", help="what to keep away from"),
        _flag(
            "--cfg-scale",
            "--cfg",
            "--cfg-guidance-scale",
            "--guidance-scale",
            "--video-cfg-guidance-scale",
            type=float,
            metavar="X",
            help="guidance by the prompt (3.0)",
        ),
        _flag(
            "--audio-cfg-scale",
            "--audio-cfg-guidance-scale",
            type=float,
            metavar="X",
            help="the same for sound (7.0)",
        ),
        _flag("--cfg-rescale", type=float, metavar="X", help="0.7, HQ 0.45"),
        _flag("--apg", action="store_true", help="adaptive projected guidance"),
        _flag("--stg-scale", type=float, metavar="X", help="spatio-temporal guidance (0)"),
        _flag("--stg-blocks", type=int, nargs="+", metavar="N", help="blocks that it perturbs"),
        _flag("--modality-scale", type=float, metavar="X", help="needs sound (1.0)"),
        _flag("--skip-step", "--video-skip-step", type=int, metavar="N", help="guide every N+1th"),
        _flag("--audio-skip-step", type=int, metavar="N", help="the same for sound"),
        _flag("--max-batch-size", type=int, metavar="N", help="passes at once (as many as fit)"),
    ),
    "images and video": (
        _several(
            "--image", "-i", metavar="PATH", help="[FRAME [STRENGTH [CRF]]] follow; repeatable"
        ),
        _flag("--image-strength", type=float, metavar="X", help="for images without one (1.0)"),
        _flag(
            "--conditioning-mode",
            metavar="MODE",
            help="auto (frame 0 replaces, others guide), replace, guide",
        ),
        _several("--video-conditioning", metavar="PATH", help="[0 [STRENGTH]]: reference video"),
        Flag(
            ("--conditioning-attention-mask",),
            "how strongly a reference is attended to, as a mask and a strength",
            {"nargs": 2, "metavar": ("PATH", "STRENGTH")},
        ),
        Flag(("--prefix-video",), "[FRAMES] follow", {"nargs": "+", "metavar": ("PATH", "...")}),
        Flag(("--suffix-video",), "[FRAMES] follow", {"nargs": "+", "metavar": ("PATH", "...")}),
        _flag("--video", metavar="FILE", help="the clip that retake, extend, --mask, --pad change"),
        _flag("--mask", metavar="FILE", help="white where --video is made anew"),
        _flag("--pad", metavar="L,T,R,B", help="make these margins around --video, in pixels"),
        _flag("--start-time", type=float, metavar="S", help="retake from here, in seconds"),
        _flag("--end-time", type=float, metavar="S", help="retake up to here"),
        _flag("--keep", metavar="STREAM", help="retake: keep the video, or the audio"),
        _flag("--extend-after", type=int, metavar="N", help="frames to add at the end"),
        _flag("--extend-before", type=int, metavar="N", help="frames to add in front"),
    ),
    "sound": (
        _flag("--audio-file", metavar="FILE", help="make the picture to this sound"),
        _flag("--audio-start-time", type=float, metavar="S", help="where in it to begin (0)"),
        _flag("--audio-strength", type=float, metavar="X", help="below 1 it is remade (1.0)"),
        _flag("--reference-audio", metavar="FILE", help="a voice or sound to be like"),
    ),
    "LoRA": (
        _several(
            "--lora",
            "--lora-path",
            metavar="PATH",
            help="a file, a folder, user/repo or user/repo::FILE; [STRENGTH [AUDIO_STRENGTH]] "
            "follow; repeatable",
        ),
        _flag("--lora-strength", type=float, metavar="X", help="for LoRAs without one (1.0)"),
        _flag("--lora-mode", metavar="MODE", help="auto, attach, fuse"),
        _flag(
            "--lora-fuse-anyway",
            action="store_true",
            help="also where quantised weights keep too little of it",
        ),
        _flag(
            "--lora-allow-unmatched", action="store_true", help="pass over keys that fit nowhere"
        ),
        Flag(
            ("--distilled-lora",),
            "[STRENGTH]: refinement LoRA of stage 2 (found in the model's folder)",
            {"nargs": "+", "metavar": ("PATH", "...")},
        ),
        _flag("--lora-strength-stage-1", type=float, metavar="X", help="HQ: 0.25"),
        _flag("--lora-strength-stage-2", type=float, metavar="X", help="HQ: 0.5"),
    ),
    "files": (
        _flag("--download-only", action="store_true", help="fetch what the run needs, and end"),
        _flag("--list-lora-files", metavar="REPO", help="list its files with their sizes, and end"),
        _flag("--decode-only", metavar="LATENTS", help="decode the latents that a run left"),
    ),
    "programs and tests": (
        _flag("--json", action="store_true", help="events on stdout, a line of JSON each"),
        _flag(
            "--skip-vae",
            action="store_true",
            help="no clip: the latents, and a picture of them in false colours",
        ),
        _flag(
            "--placeholder",
            action="store_true",
            help="noise in the place of what the transformer makes",
        ),
    ),
}


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Add every flag; what is not given stays None."""
    parser.add_argument("prompt_words", nargs="*", metavar="PROMPT", help=argparse.SUPPRESS)
    for title, flags in GROUPS.items():
        group = parser.add_argument_group(title)
        for flag in flags:
            kwargs = dict(flag.kwargs)
            if kwargs.get("action") == "store_true":
                kwargs["default"] = None
            group.add_argument(*flag.names, help=flag.help, **kwargs)


def names_of(field: str) -> tuple[str, ...]:
    """Every spelling of the flag of a field."""
    first = f"--{field.replace('_', '-')}"
    return next(f.names for flags in GROUPS.values() for f in flags if f.names[0] == first)
