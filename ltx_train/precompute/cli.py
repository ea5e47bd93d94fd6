"""ltx-precompute: a folder of clips to latents and text features to train on.

Only what --help needs is imported here; the command imports what it runs.
"""

import argparse
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from ltx_infer.cli import Parser, run_command, start

EXIT_FAILED = 1


def main(argv: Sequence[str] | None = None) -> None:
    """Run ltx-precompute; exit code 1 if a clip failed, 2 for what the user can put right."""
    parser = _parser()
    run_command(parser.prog, lambda: _precompute(parser.parse_args(argv)))


def _parser() -> Parser:
    parser = Parser(
        prog="ltx-precompute",
        usage="%(prog)s --input-dir DIR --output-dir DIR --resolution-buckets WxHxF [options]",
        description="Encode a folder of clips, each with its caption in a .txt beside it, "
        "to latents and text features to train on.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "--input-dir", type=Path, metavar="DIR", required=True, help="clip.mp4 and clip.txt"
    )
    parser.add_argument(
        "--output-dir",
        type=Path,
        metavar="DIR",
        required=True,
        help="what data.preprocessed_data_root of ltx-train names",
    )
    parser.add_argument(
        "--resolution-buckets",
        metavar='"WxHxF;..."',
        required=True,
        help="sizes and frames; each clip is brought to the one nearest to it in shape",
    )
    parser.add_argument(
        "--model",
        "--model-repo",
        "--weights",
        metavar="MODEL",
        default="Lightricks/LTX-2",
        help="tiny, a .safetensors checkpoint, or a folder that holds one",
    )
    parser.add_argument(
        "--text-encoder-repo",
        "--gemma-root",
        "--text-encoder-path",
        type=Path,
        metavar="DIR",
        help="folder of a Gemma 3 (default: the one in the model's folder)",
    )
    parser.add_argument(
        "--overwrite", action="store_true", help="encode anew what is there and has not changed"
    )
    parser.add_argument(
        "--allow-unknown-config",
        action="append",
        default=[],
        metavar="KEY",
        help="pass over this key of the checkpoint's configuration; repeatable",
    )
    return parser


def _precompute(args: argparse.Namespace) -> None:
    from ltx_train.inputs.buckets import parse_buckets
    from ltx_train.precompute.config import PrecomputeConfig
    from ltx_train.precompute.encode import precompute

    given = vars(args)
    given["resolution_buckets"] = parse_buckets(args.resolution_buckets)
    given["allow_unknown_config"] = tuple(args.allow_unknown_config)
    config = PrecomputeConfig(**given)
    start()

    from ltx_infer.progress import StageLines

    with StageLines() as report:
        outcomes = precompute(config, report=report)
    counts = Counter(outcome.status for outcome in outcomes)
    said = ", ".join(f"{counts[status]} {status}" for status in ("done", "skipped", "failed"))
    print(f"{config.output_dir}: {said}")
    for outcome in outcomes:
        if outcome.reason:
            print(f"{outcome.status}: {outcome.name}: {outcome.reason}")
    if counts["failed"]:
        sys.exit(EXIT_FAILED)
