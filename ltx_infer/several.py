"""The clips of one command: a line of a file each, or one prompt with several seeds."""

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ltx_infer.config import GenerateConfig, build
from ltx_models.errors import UserError, reason

SLUG_LENGTH = 40
MOST = 10_000  # clips of one command
COMMENT = "#"
OWN = ("prompt", "embedding")  # which a file of prompts takes the place of


class Several(NamedTuple):
    """What makes several clips of one request."""

    prompts: Sequence[tuple[int, str]] | None = None  # each with its number; None: the request's
    num_seeds: int = 1
    auto_output_name: bool = False


def several(given: Mapping[str, Any], how: Several) -> list[GenerateConfig]:
    """A configuration for each clip: every prompt with every one of the seeds.

    Those of a list are named after the output and their numbers, those of several seeds after the
    seed too, as out-3-42.mp4; one alone is the output itself. With ``auto_output_name`` each is
    named after prompt and seed.

    Raises UserError for what names no prompt, and as ``build``.
    """
    if not 1 <= how.num_seeds <= MOST:
        raise UserError(f"--count {how.num_seeds}: 1 to {MOST} would fit")
    if how.prompts is None:
        lines: list[tuple[str, dict[str, Any]]] = [("", {})]
    else:
        if told := [f"--{field}" for field in OWN if given.get(field) is not None]:
            raise UserError(
                f"--prompts-file has the prompts; it does not go with {', '.join(told)}"
            )
        width = len(str(max((number for number, _ in how.prompts), default=0)))
        lines = [(f"-{number:0{width}}", {"prompt": prompt}) for number, prompt in how.prompts]
    first = build({**given, **lines[0][1]})
    seeds = range(first.seed, first.seed + how.num_seeds)
    clips = [
        (line if how.num_seeds == 1 else f"{line}-{seed}", {**given, **prompt, "seed": seed})
        for line, prompt in lines
        for seed in seeds
    ]
    if how.prompts is None and how.num_seeds == 1 and not how.auto_output_name:
        return [first]
    return list(_named(clips, first, how, output_given="output_path" in given))


def _named(
    clips: list[tuple[str, dict[str, Any]]],
    first: GenerateConfig,
    how: Several,
    *,
    output_given: bool,
) -> Iterator[GenerateConfig]:
    output = first.output_path
    folder, ending = output.parent, output.suffix
    if how.auto_output_name and output_given:
        if not output.is_dir():
            raise UserError(
                f"--output-path {output}: --auto-output-name names the clip; a folder would fit"
            )
        folder, ending = output, ".wav" if first.pipeline == "t2a" else ".mp4"
    taken: set[str] = set()
    for suffix, words in clips:
        config = build(words)
        name = f"{output.stem}{suffix}"
        if how.auto_output_name:
            words = config.prompt or (config.embedding and config.embedding.stem) or ""
            name = _free(f"{slug(words)}-{config.seed}", taken)
        update = {"output_path": folder / f"{name}{ending}"}
        if (sound := config.output_audio) is not None:
            own = name if how.auto_output_name else f"{sound.stem}{suffix}"
            update["output_audio"] = sound.with_name(f"{own}{sound.suffix}")
        yield config.model_copy(update=update)


def _free(name: str, taken: set[str]) -> str:
    """The name, with a number behind it where two prompts begin alike; it is taken then."""
    number, free = 1, name
    while free in taken:
        number += 1
        free = f"{name}-{number}"
    taken.add(free)
    return free


def slug(prompt: str) -> str:
    """The beginning of a prompt as a file's name."""
    return re.sub(r"[\W_]+", "-", prompt.lower())[:SLUG_LENGTH].strip("-") or "clip"


def read_prompts(path: Path) -> list[tuple[int, str]]:
    """The prompts of a file with the numbers of their lines.

    Empty lines, and those that begin with #, are no prompts. Raises UserError where there is none.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except OSError as error:
        raise UserError(f"--prompts-file {path}: {reason(error)}") from None
    except UnicodeDecodeError:
        raise UserError(f"--prompts-file {path}: is no text in UTF-8") from None
    found = [
        (number, line.strip())
        for number, line in enumerate(lines, 1)
        if line.strip() and not line.lstrip().startswith(COMMENT)
    ]
    if not found:
        raise UserError(f"--prompts-file {path}: no prompt in it")
    if len(found) > MOST:
        raise UserError(f"--prompts-file {path}: {len(found)} prompts; {MOST} at most")
    return found
