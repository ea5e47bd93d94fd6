"""ltx-precompute: clips and captions to latents and text features to train on.

Only what --help needs is imported here; the command imports what it runs.
"""

import argparse
import sys
import traceback
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ltx_infer.command import Parser, run_command, start
from ltx_models.errors import UserError
from ltx_train.precompute.flags import add_flags, check_together

if TYPE_CHECKING:
    from ltx_train.inputs.item import Outcome
    from ltx_train.precompute.config import PrecomputeConfig

EXIT_FAILED = 1
MODEL = "Lightricks/LTX-2"


def main(argv: Sequence[str] | None = None) -> None:
    """Run ltx-precompute; exit code 1 if a clip failed, 2 for what the user can put right."""
    parser = _parser()
    run_command(parser.prog, lambda: _run(parser.parse_args(argv)))


def _parser() -> Parser:
    parser = Parser(
        prog="ltx-precompute",
        usage="%(prog)s --input-dir DIR --output-dir DIR --resolution-buckets WxHxF [options]",
        description="Encode a folder of clips and stills, each with its caption in a .txt beside "
        "it, to latents and text features to train on.",
        allow_abbrev=False,
    )
    add_flags(parser)
    return parser


def _run(args: argparse.Namespace) -> None:
    try:
        _precompute(vars(args))
    except UserError:
        if "debug" in args:
            traceback.print_exc()
        raise


def _precompute(given: dict) -> None:
    config = _config(given)
    start()

    from ltx_infer.progress import StageLines
    from ltx_train.precompute.run import precompute

    with StageLines() as report:
        outcomes = precompute(config, report=report, say=_say if config.dry_run else _say_aside)
    if not config.dry_run:
        for line in _summary(outcomes, config):
            _say(line)
    if any(outcome.status == "failed" for outcome in outcomes):
        sys.exit(EXIT_FAILED)


def _summary(outcomes: Sequence["Outcome"], config: "PrecomputeConfig") -> list[str]:
    """How many there are of each kind, and a line for each that is not plainly done."""
    counts = Counter(outcome.status for outcome in outcomes)
    said = ", ".join(f"{counts[status]} {status}" for status in ("done", "skipped", "failed"))
    return [
        f"{config.output_dir}: {said}",
        *(
            ": ".join(filter(None, (outcome.status, outcome.name, outcome.reason)))
            for outcome in outcomes
            if outcome.reason or config.debug
        ),
    ]


def _say(line: str) -> None:
    """Names may have letters that the terminal lacks."""
    encoding = sys.stdout.encoding or "ascii"
    print(line.encode(encoding, "backslashreplace").decode(encoding))


def _say_aside(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _config(given: dict) -> "PrecomputeConfig":
    """What is asked for; raises UserError for what cannot be."""
    if "resolution_buckets" in given:
        from ltx_train.inputs.buckets import parse_buckets

        given["resolution_buckets"] = parse_buckets(given["resolution_buckets"])
    check_together(given)
    given["allow_unknown_config"] = tuple(given.get("allow_unknown_config", ()))

    from ltx_train.precompute.config import PrecomputeConfig

    return PrecomputeConfig(**{"model": MODEL, **given})
