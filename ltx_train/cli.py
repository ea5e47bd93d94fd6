"""ltx-train: what ltx-precompute made, to an adapter for ltx-generate --lora.

Only what --help needs is imported here; the command imports what it runs.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from ltx_infer.cli import Parser, run_command, start


def main(argv: Sequence[str] | None = None) -> None:
    """Run ltx-train; exit code 2 and at most four lines for what the user can put right."""
    parser = _parser()
    run_command(parser.prog, lambda: _train(parser.parse_args(argv)))


def _parser() -> Parser:
    parser = Parser(
        prog="ltx-train",
        usage="%(prog)s --config FILE [section.key=value ...]",
        description="Train a LoRA on what ltx-precompute made.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "--config",
        type=Path,
        metavar="FILE",
        required=True,
        help="YAML, as configs/train/t2v_lora.yaml",
    )
    parser.add_argument(
        "overrides",
        nargs="*",
        metavar="section.key=value",
        help="put over the file's, as optimization.steps=500",
    )
    return parser


def _train(args: argparse.Namespace) -> None:
    from ltx_train.config import read_config

    config = read_config(args.config, args.overrides)
    start()

    from ltx_infer.progress import StageLines
    from ltx_train.run import train_lora

    with StageLines() as report:
        made = train_lora(config, report=report)
    print(f"{made.adapter}: {made.num_modules} layers, last loss {made.loss:.4f}")
