"""ltx-precompute and ltx-train: clips and captions to an adapter for ltx-generate --lora.

Only what --help needs is imported here; each command imports what it runs.
"""

import argparse
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from ltx_infer.cli import Parser, run_command

EXIT_FAILED = 1


def precompute(argv: Sequence[str] | None = None) -> None:
    """Run ltx-precompute; exit code 1 if a clip failed, 2 for what the user can put right."""
    parser = _precompute_parser()
    run_command(parser.prog, lambda: _precompute(parser.parse_args(argv)))


def train(argv: Sequence[str] | None = None) -> None:
    """Run ltx-train; exit code 2 and at most four lines for what the user can put right."""
    parser = _train_parser()
    run_command(parser.prog, lambda: _train(parser.parse_args(argv)))


def _precompute_parser() -> Parser:
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


def _train_parser() -> Parser:
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


def _precompute(args: argparse.Namespace) -> None:
    from ltx_train.precompute.buckets import parse_buckets
    from ltx_train.precompute.encode import PrecomputeConfig, precompute

    given = vars(args)
    given["resolution_buckets"] = parse_buckets(args.resolution_buckets)
    given["allow_unknown_config"] = tuple(args.allow_unknown_config)
    config = PrecomputeConfig(**given)
    _prepare()

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


def _train(args: argparse.Namespace) -> None:
    from ltx_train.config import read_config

    config = read_config(args.config, args.overrides)
    _prepare()

    from ltx_infer.progress import StageLines
    from ltx_train.run import train_lora

    with StageLines() as report:
        made = train_lora(config, report=report)
    print(f"{made.adapter}: {made.num_modules} layers, last loss {made.loss:.4f}")


def _prepare() -> None:
    """Make MLX ready, or raise UserError that says what is missing."""
    from ltx_models import blas, device

    blas.check()
    device.require_mlx()
    device.prepare()
    if notice := device.backend_notice():
        print(notice, file=sys.stderr)
