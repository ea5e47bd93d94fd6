"""ltx-generate: a clip from a prompt, and from what it is given besides.

Only what --help needs is imported here; each command imports what it runs.
"""

import argparse
import shlex
import signal
import sys
from collections.abc import Callable, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from ltx_infer.flags import add_flags, names_of
from ltx_models.errors import UserError

if TYPE_CHECKING:
    from ltx_infer.config import GenerateConfig

EXIT_USER_ERROR, EXIT_BY_SIGNAL = 2, 128
SOUND_ENDINGS = (".wav", ".flac", ".mp3", ".ogg", ".m4a")


class Parser(argparse.ArgumentParser):
    """Faults of a command line are UserErrors, of one line, with the nearest flag."""

    def error(self, message: str) -> NoReturn:
        """Raise UserError in place of printing the usage."""
        words = [word for word in message.split() if word.startswith("--")]
        unknown = "unrecognized" in message and words
        near = get_close_matches(words[0], self._option_string_actions, n=1) if unknown else []
        hint = f"; did you mean {near[0]}?" if near else ""
        raise UserError(f"{message}{hint}")


def main(argv: Sequence[str] | None = None) -> None:
    """Run ltx-generate; exit code 2 and at most four lines for what the user can put right."""
    argv = sys.argv[1:] if argv is None else list(argv)
    run_command("ltx-generate", lambda: _generate(_parser().parse_args(argv), argv))


def run_command(name: str, command: Callable[[], None]) -> None:
    """Run a command, and end the process as a command-line tool should where it fails."""
    before = signal.signal(signal.SIGTERM, _stop)
    try:
        command()
    except UserError as error:
        _end(f"{name}: {error}", error, EXIT_USER_ERROR)
    except OSError as error:
        place = f"{error.filename}: " if error.filename else ""
        _end(f"{name}: {place}{error.strerror or error}", error, EXIT_USER_ERROR)
    except KeyboardInterrupt as error:
        number = error.args[0] if error.args else signal.SIGINT
        _end(f"{name}: stopped", error, EXIT_BY_SIGNAL + number)
    finally:
        signal.signal(signal.SIGTERM, before)


def _stop(number: int, _frame: object) -> None:
    """Let SIGTERM unwind the stack as Ctrl-C does, so that no temporary file stays."""
    raise KeyboardInterrupt(number)


def _end(line: str, error: BaseException, code: int) -> NoReturn:
    """Say why, and what the exception's notes say, and end the process."""
    print("\n".join([line, *getattr(error, "__notes__", [])]), file=sys.stderr)
    sys.exit(code)


def _parser() -> Parser:
    parser = Parser(
        prog="ltx-generate",
        usage="ltx-generate --model MODEL --prompt TEXT [options]",
        description="Make a video clip, with sound if asked for, from a prompt and what is given.",
        epilog="On any machine, offline: ltx-generate --model tiny --prompt 'waves' --audio",
        allow_abbrev=False,
    )
    add_flags(parser)
    return parser


def _generate(args: argparse.Namespace, argv: Sequence[str]) -> None:
    given = {name: value for name, value in vars(args).items() if value is not None}
    latents = given.pop("decode_only", None)
    if latents is not None:
        _decode_only(given, Path(latents))
        return

    from ltx_infer.config import build

    config = build(_with_prompt(given))
    _check_sizes(config, argv)
    start()

    from ltx_infer.generate import generate
    from ltx_infer.progress import StageLines

    with StageLines() as report:
        made = generate(config, report=report, say=_say)
    _tell(made)


def _decode_only(given: dict, latents: Path) -> None:
    strange = sorted(given.keys() - {"output_path", "model", "prompt_words"})
    if strange or given.get("prompt_words"):
        flags = ", ".join(names_of(field)[0] for field in strange) or "a prompt"
        raise UserError(f"--decode-only does not go with {flags}: the latents are finished")
    start()

    from ltx_infer.generate import decode_only
    from ltx_infer.progress import StageLines

    output = Path(given["output_path"]).expanduser() if "output_path" in given else None
    with StageLines() as report:
        made = decode_only(given.get("model"), latents.expanduser(), output, report=report)
    _tell(made)


def start() -> None:
    """Make MLX ready and say what could be faster, or raise UserError that says what is missing."""
    from ltx_models import blas, device

    blas.check()
    device.require_mlx()
    device.prepare()
    if notice := device.backend_notice():
        _say(notice)


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _tell(made) -> None:
    sound = "no sound" if made.sampling_rate is None else f"stereo sound at {made.sampling_rate} Hz"
    frames = "1 frame, " if made.num_frames == 1 else f"{made.num_frames} frames, "
    line = f"{made.path}: {frames if made.num_frames else ''}{sound}"
    encoding = sys.stdout.encoding or "ascii"
    print(line.encode(encoding, "backslashreplace").decode(encoding))


def _with_prompt(given: dict) -> dict[str, object]:
    """Words without a flag are the prompt, if there is one of them and no --prompt."""
    words = given.pop("prompt_words")
    sound = next((word for word in words if Path(word).suffix.lower() in SOUND_ENDINGS), None)
    if sound and given.get("audio"):
        raise UserError(
            f"--audio takes no file: it makes sound. For a clip to the sound of {sound}: "
            f"--audio-file {sound}"
        )
    if "prompt" not in given and len(words) == 1:
        given["prompt"] = words[0]
    elif words:
        whole = " ".join([*filter(None, [given.get("prompt")]), *words])
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
        corrected = _with_value(corrected, names_of(field), nearest)
    raise UserError(f"{'; '.join(said)}. This fits:\n{shlex.join(['ltx-generate', *corrected])}")


def _with_value(argv: Sequence[str], flags: Sequence[str], value: int) -> list[str]:
    """Arguments with another value for one flag, however it was spelled."""
    words, corrected, found = iter(argv), [], False
    for word in words:
        flag = next((flag for flag in flags if _spells(word, flag)), None)
        corrected += [word] if flag is None else [flag, str(value)]
        found = found or flag is not None
        if word == flag:
            next(words)  # the old value
    return corrected if found else [*corrected, flags[0], str(value)]


def _spells(word: str, flag: str) -> bool:
    """Whether an argument is a flag, or holds a flag with its value: --width=64, -W64."""
    joined = word.startswith(f"{flag}=") if flag.startswith("--") else word.startswith(flag)
    return word == flag or (joined and (flag.startswith("--") or not word.startswith("--")))
