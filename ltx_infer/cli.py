"""ltx-generate: a clip from a prompt, and from what it is given besides.

Only what --help needs is imported here; each command imports what it runs.
"""

import argparse
import os
import shlex
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from ltx_infer.command import Parser, complain, print_line, require_mlx, run_command, start
from ltx_infer.flags import add_flags, names_of
from ltx_models.errors import UserError

if TYPE_CHECKING:
    from ltx_infer.config import GenerateConfig
    from ltx_infer.decode import Written
    from ltx_infer.events import Reporting
    from ltx_infer.pipeline.sanity import SanityError

EXIT_SOME_MISSING = 1
INSTEAD = ("download_only", "dry_run", "decode_only")  # of making a clip
DECODING = ("tiling", "stream", "output_audio", "save_frames", "preview")  # of --decode-only
SOUND_ENDINGS = (".wav", ".flac", ".mp3", ".ogg", ".m4a")


def main(argv: Sequence[str] | None = None) -> None:
    """Run ltx-generate; exit code 2 and at most four lines for what the user can put right."""
    argv = sys.argv[1:] if argv is None else list(argv)
    events = "--json" in argv and "--info" not in argv
    run_command("ltx-generate", lambda: _generate(_parser().parse_args(argv), argv), events=events)


def _parser() -> Parser:
    parser = Parser(
        prog="ltx-generate",
        usage="ltx-generate --prompt TEXT [--model MODEL] [options]",
        description="Make a video clip, with sound if asked for, from a prompt and what is given.",
        epilog="On any machine, offline: ltx-generate --model tiny --prompt 'waves' --audio",
        allow_abbrev=False,
    )
    add_flags(parser)
    return parser


def _generate(args: argparse.Namespace, argv: Sequence[str]) -> None:
    given = {name: value for name, value in vars(args).items() if value is not None}
    if (token := given.pop("token", None)) is not None:
        os.environ["HF_TOKEN"] = token  # all that asks the hub reads it there
    if (repository := given.pop("list_lora_files", None)) is not None:
        _list_lora_files(given, repository)
        return
    if (file := given.pop("info", None)) is not None:
        _info(given, file)
        return
    if len(instead := [name for name in INSTEAD if name in given]) > 1:
        raise UserError(f"{' and '.join(names_of(name)[0] for name in instead)}: one of them")
    require_mlx()

    from ltx_infer.events import reporting

    with reporting(events=given.pop("json", False)) as to:
        if given.pop("download_only", False):
            _download_only(given, to)
        elif given.pop("dry_run", False):
            _dry_run(given, argv, to)
        elif (latents := given.pop("decode_only", None)) is not None:
            _decode_only(given, Path(latents), to)
        else:
            _make(given, argv, to)


def _make(given: dict, argv: Sequence[str], to: "Reporting") -> None:
    configs, was_made_with = _configs(given, to.say)
    _check_sizes(configs[0], argv)
    to.started("ltx-generate", configs)
    start(to.say)

    from ltx_infer.generate import generate_each
    from ltx_infer.pipeline.sanity import SanityError

    failed, paths = [], []
    for config, made in generate_each(
        configs,
        report=to.report,
        say=to.say,
        was_made_with=was_made_with,
        planned=to.planned,
    ):
        if not isinstance(made, SanityError):
            _tell(made)
            to.written(made)
            paths.append(made.path)
        elif len(configs) == 1:
            raise made
        else:
            failed.append((config, made))
    if failed:
        _end_with(failed, len(configs), to)
    to.finished(paths)


def _configs(given: dict, say: Callable[[str], None]) -> "tuple[list[GenerateConfig], dict | None]":
    """The clips that are asked for, and what made the one that they repeat."""
    from ltx_infer.settings import check_not_itself, repeated
    from ltx_infer.several import Several, read_prompts, several

    given = _with_prompt(given)
    prompts_file = given.pop("prompts_file", None)
    how = Several(
        None if prompts_file is None else read_prompts(Path(prompts_file).expanduser()),
        given.pop("count", 1),
        given.pop("auto_output_name", False),
    )
    if (clip := given.pop("from", None)) is None:
        return several(given, how), None
    clip, output_named = Path(clip).expanduser(), "output_path" in given
    new_prompts = prompts_file is not None
    given, was_made_with = repeated(clip, given, new_prompts=new_prompts, say=say)
    if how.auto_output_name and not output_named:
        del given["output_path"]
    configs = several(given, how)
    if not output_named:
        for config in configs:
            check_not_itself(clip, config.output_path)
    return configs, was_made_with


def _end_with(
    failed: "list[tuple[GenerateConfig, SanityError]]", total: int, to: "Reporting"
) -> NoReturn:
    """Say which clips of several are missing, and why, and end the process."""
    for config, error in failed:
        lines = "\n".join([str(error), *getattr(error, "__notes__", [])])
        complain(f"ltx-generate: {config.output_path}: {lines}")
        to.missing(config.output_path, lines)
    line = f"{len(failed)} of {total} clips are missing"
    complain(f"ltx-generate: {line}")
    to.failed(line, EXIT_SOME_MISSING)
    sys.exit(EXIT_SOME_MISSING)


def _list_lora_files(given: dict, repository: str) -> None:
    strange = [*given.pop("prompt_words"), *(names_of(field)[0] for field in given)]
    if strange:
        raise UserError(f"--list-lora-files does not go with {', '.join(strange)}: nothing is made")

    from ltx_infer.pipeline.find_lora import list_lora_files

    print("\n".join(list_lora_files(repository)))


def _info(given: dict, file: str) -> None:
    as_json = given.pop("json", False)
    strange = [*given.pop("prompt_words"), *(names_of(field)[0] for field in given)]
    if strange:
        raise UserError(f"--info does not go with {', '.join(strange)}: nothing is made")
    start()

    from ltx_infer.info import about, lines

    found = about(Path(file).expanduser())
    if as_json:
        import json

        print(json.dumps(found, indent=2, ensure_ascii=False))
    else:
        print_line("\n".join(lines(found)))


def _download_only(given: dict, to: "Reporting") -> None:
    if given.keys().isdisjoint(("from", "prompts_file", "embedding")):
        given = {"prompt": "none", **given}  # which changes nothing
    (config, *_), _made_with = _configs(given, to.say)
    to.started("ltx-generate", [config])
    start(to.say)

    from ltx_infer.combinations import faults
    from ltx_infer.hub.request import find_files
    from ltx_models.config import summarise

    if problems := faults(config):
        raise UserError(summarise(problems))
    found = find_files(config, say=to.say)
    for note in found.model.notes:
        to.say(note)
    fetched = f"{found.num_fetched} files fetched" if found.num_fetched else "nothing to fetch"
    print_line(f"{found.model.checkpoint}: {fetched}")
    to.finished([found.model.checkpoint])


def _dry_run(given: dict, argv: Sequence[str], to: "Reporting") -> None:
    configs, _made_with = _configs(given, to.say)
    _check_sizes(configs[0], argv)
    to.started("ltx-generate", configs)
    start(to.say)

    from ltx_infer.plan.dry_run import dry_run

    for line in dry_run(configs, say=to.say, planned=to.planned):
        print_line(line)
    to.finished([])


def _decode_only(given: dict, latents: Path, to: "Reporting") -> None:
    ways = {name: given.pop(name) for name in DECODING if name in given}
    strange = sorted(given.keys() - {"output_path", "model", "prompt_words"})
    if strange or given.get("prompt_words"):
        flags = ", ".join(names_of(field)[0] for field in strange) or "a prompt"
        raise UserError(f"--decode-only does not go with {flags}: the latents are finished")

    from ltx_infer.config import build

    how = build({"prompt": "that of the latents", **ways})
    to.started("ltx-generate", [how])
    start(to.say)

    from ltx_infer.decode import decode_only
    from ltx_infer.pipeline.extras import extras_of

    output = Path(given["output_path"]).expanduser() if "output_path" in given else None
    made = decode_only(
        given.get("model"),
        latents.expanduser(),
        output,
        report=to.report,
        tiling=how.tiling,
        stream=how.stream,
        extras=extras_of(how),
    )
    _tell(made)
    to.written(made)
    to.finished([made.path])


def _tell(made: "Written") -> None:
    sound = "no sound" if made.sampling_rate is None else f"stereo sound at {made.sampling_rate} Hz"
    frames = "1 frame, " if made.num_frames == 1 else f"{made.num_frames} frames, "
    what = f"{frames if made.num_frames else ''}{sound}"
    print_line(f"{made.path}: {'latents, not decoded' if made.kind == 'latents' else what}")
    for path, kind in made.others:
        print_line(f"{path}: {kind}")


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
