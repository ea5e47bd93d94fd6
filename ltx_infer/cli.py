"""ltx-generate: a clip from a prompt.

Only what --help needs is imported here; each command imports what it runs.
"""

import argparse
import shlex
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ltx_models.errors import UserError

if TYPE_CHECKING:
    from ltx_infer.config import GenerateConfig

EXIT_USER_ERROR, EXIT_INTERRUPTED = 2, 130
SIZE_FLAGS = {
    "height": ("--height", "-H"),
    "width": ("--width", "-W"),
    "num_frames": ("--num-frames", "--frames", "-n"),
}
SOUND_ENDINGS = (".wav", ".flac", ".mp3", ".ogg", ".m4a")


def main(argv: Sequence[str] | None = None) -> None:
    """Run ltx-generate; exit code 2 and at most four lines for what the user can put right."""
    argv = sys.argv[1:] if argv is None else list(argv)
    parser = _parser()
    run_command(parser.prog, lambda: _generate(parser.parse_args(argv), argv))


def run_command(name: str, command: Callable[[], None]) -> None:
    """Run a command, and end the process as a command-line tool should where it fails."""
    try:
        command()
    except UserError as error:
        print(f"{name}: {error}", file=sys.stderr)
        sys.exit(EXIT_USER_ERROR)
    except KeyboardInterrupt:
        print(f"{name}: stopped", file=sys.stderr)
        sys.exit(EXIT_INTERRUPTED)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="ltx-generate",
        description="Make a video clip, with sound if asked for, from a prompt.",
        epilog="On any machine, offline: ltx-generate --model tiny --prompt 'waves' --audio",
        allow_abbrev=False,
    )
    parser.add_argument("prompt_words", nargs="*", metavar="PROMPT", help="the same as --prompt")
    parser.add_argument("-p", "--prompt", help="what the clip shows")
    model = parser.add_argument_group("model")
    model.add_argument(
        "--model",
        "--model-repo",
        "--weights",
        metavar="MODEL",
        help="tiny, a .safetensors checkpoint, or a folder that holds one",
    )
    model.add_argument(
        "--text-encoder-repo",
        "--gemma-root",
        "--text-encoder-path",
        metavar="DIR",
        help="folder of a Gemma 3 (default: the one in the model's folder)",
    )
    model.add_argument(
        "--allow-unknown-config",
        action="append",
        metavar="KEY",
        help="pass over this key of the checkpoint's configuration; repeatable",
    )
    clip = parser.add_argument_group("clip")
    for field, text in {
        "height": "pixel rows (default: 512)",
        "width": "pixel columns (default: 512)",
        "num_frames": "frames, a multiple of 8 plus 1 (default: 33)",
    }.items():
        clip.add_argument(*SIZE_FLAGS[field], dest=field, type=int, metavar="N", help=text)
    clip.add_argument(
        "--fps", "--frame-rate", type=float, metavar="RATE", help="frames a second (default: 24)"
    )
    clip.add_argument(
        "-s", "--seed", type=int, metavar="N", help="same seed, same clip (default: 42)"
    )
    clip.add_argument("-a", "--audio", action="store_true", help="make sound too")
    clip.add_argument(
        "--one-stage",
        action="store_true",
        help="sample at full size, without the half-size stage and the upscaler",
    )
    clip.add_argument(
        "-o",
        "--output-path",
        "--output",
        metavar="FILE",
        help="clip to write, .mp4 or .mov (default: output.mp4)",
    )
    return parser


def _generate(args: argparse.Namespace, argv: Sequence[str]) -> None:
    from ltx_infer.config import build

    config = build(_asked(args))
    _check_sizes(config, argv)

    from ltx_models import blas, device

    blas.check()
    device.require_mlx()
    device.prepare()
    if notice := device.backend_notice():
        print(notice, file=sys.stderr)

    from ltx_infer.generate import generate
    from ltx_infer.progress import StageLines

    with StageLines() as report:
        made = generate(config, report=report)
    rate = made.sampling_rate
    sound = "no sound" if rate is None else f"stereo sound at {rate} Hz"
    print(f"{config.output_path}: {made.num_frames} frames, {sound}")


def _asked(args: argparse.Namespace) -> dict[str, object]:
    """What was given on the command line; what was not is left to the configuration's defaults."""
    given = {name: value for name, value in vars(args).items() if value is not None}
    words = given.pop("prompt_words")
    sound = next((word for word in words if Path(word).suffix.lower() in SOUND_ENDINGS), None)
    if sound and args.audio:
        raise UserError(
            f"--audio takes no file: it makes sound. For a clip to the sound of {sound}: "
            f"--audio-file {sound}"
        )
    if "prompt" not in given and len(words) == 1:
        given["prompt"] = words[0]
    elif words:
        whole = " ".join([*filter(None, [args.prompt]), *words])
        raise UserError(
            f"{' '.join(words)!r} is left over; put the whole prompt in quotes: "
            f"--prompt {shlex.quote(whole)}"
        )
    return given


def _check_sizes(config: "GenerateConfig", argv: Sequence[str]) -> None:
    """Raise UserError with the corrected command unless the sizes are ones a model can make."""
    faults = config.size_faults()
    if not faults:
        return
    corrected, said = list(argv), []
    for field, (nearest, rule) in faults.items():
        said.append(f"--{field.replace('_', '-')} {getattr(config, field)} is not {rule}")
        corrected = _with_value(corrected, SIZE_FLAGS[field], nearest)
    raise UserError(f"{'; '.join(said)}. This fits:\n{shlex.join(['ltx-generate', *corrected])}")


def _with_value(argv: Sequence[str], flags: Sequence[str], value: int) -> list[str]:
    """Arguments with another value for one flag, however it was spelled."""
    words, corrected = iter(argv), []
    for word in words:
        flag = next((flag for flag in flags if _spells(word, flag)), None)
        corrected += [word] if flag is None else [flag, str(value)]
        if word == flag:
            next(words)  # the old value
    return corrected


def _spells(word: str, flag: str) -> bool:
    """Whether an argument is a flag, or holds a flag with its value: --width=64, -W64."""
    joined = word.startswith(f"{flag}=") if flag.startswith("--") else word.startswith(flag)
    return word == flag or joined
