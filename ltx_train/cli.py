"""ltx-train: what ltx-precompute made, to an adapter for ltx-generate --lora.

Only what --help needs is imported here; the command imports what it runs.
"""

import argparse
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path

from ltx_infer.command import Parser, run_command, start
from ltx_models.errors import UserError

STRATEGIES = ("text_to_video", "video_to_video", "ic_lora", "flexible")


def main(argv: Sequence[str] | None = None) -> None:
    """Run ltx-train; exit code 2 and at most four lines for what the user can put right."""
    parser = _parser()
    argv = sys.argv[1:] if argv is None else argv
    run_command(parser.prog, lambda: _run(parser.parse_intermixed_args(argv)))


def _parser() -> Parser:
    parser = Parser(
        prog="ltx-train",
        usage="%(prog)s [--config FILE] [section.key=value ...] [options]",
        description="Train a LoRA on what ltx-precompute made.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "--config", type=Path, metavar="FILE", help="YAML (default: configs/train/t2v_lora.yaml)"
    )
    parser.add_argument(
        "overrides",
        nargs="*",
        metavar="section.key=value",
        help="put over the file's, as optimization.steps=500, validation.samples.0.prompt=waves",
    )
    _add_shortcuts(parser.add_argument_group("for keys of the configuration"))
    how = parser.add_argument_group("how to go about it")
    how.add_argument("--resume", action="store_true", help="go on with the run in output_dir")
    how.add_argument("--force", action="store_true", help="resume with a changed configuration")
    how.add_argument("--dry-run", action="store_true", help="check all, say the plan, and end")
    how.add_argument(
        "--debug",
        action="store_true",
        help="log every step, show tracebacks; without data, train on random latents",
    )
    return parser


def _add_shortcuts(group: argparse._ArgumentGroup) -> None:
    """Flags that are None unless given: each sets a key (config/shortcuts.py)."""
    group.add_argument(
        "--pipeline", choices=("dev", "distilled"), help="which base: model.allow_distilled"
    )
    group.add_argument(
        "--allow-unknown-config",
        action="append",
        metavar="KEY",
        help="pass over this key of the checkpoint's configuration; repeatable",
    )
    group.add_argument("--training-mode", choices=("lora", "full"), help="model.training_mode")
    group.add_argument("--strategy", choices=STRATEGIES, help="training_strategy")
    group.add_argument("--data-root", metavar="DIR", help="data.preprocessed_data_root")
    group.add_argument("--steps", type=int, metavar="N", help="optimization.steps")
    group.add_argument("--validation-interval", type=int, metavar="N", help="validation.interval")
    group.add_argument(
        "--validation-prompts",
        metavar="TEXT",
        help='validation.samples, "a, b" or @file with one a line',
    )
    on = {"action": "store_true", "default": None}
    group.add_argument("--wandb-enabled", **on, help="wandb.enabled")
    group.add_argument("--hub-push", **on, help="hub.push_to_hub")
    group.add_argument("--hub-model-id", metavar="USER/NAME", help="hub.hub_model_id")


def _run(args: argparse.Namespace) -> None:
    try:
        _train(args)
    except UserError:
        if args.debug:
            traceback.print_exc()
        raise


def _train(args: argparse.Namespace) -> None:
    from ltx_train.config import read_run

    # By identity: a number 0 is given, and the configuration says what is wrong with it.
    given = {
        k: value for k, value in vars(args).items() if value is not None and value is not False
    }
    path, overrides = given.pop("config", None), given.pop("overrides")
    how = {
        name: given.pop(name) for name in ("resume", "force", "dry_run", "debug") if name in given
    }
    debug, dry_run = args.debug, args.dry_run
    config, notes = read_run(path, overrides, shortcuts=given, debug=debug)
    for note in notes:
        _say_aside(note)
    start()

    from ltx_infer.progress import StageLines
    from ltx_train.output.layout import REPORT
    from ltx_train.run import train_lora

    with StageLines() as report:
        say = _say if dry_run else _say_aside
        made = train_lora(config, report=report, say=say, notes=notes, **how)
    if made is not None:
        _say_aside(f"report: {config.output / REPORT}")
        what = f"{made.num_modules} layers" if made.num_modules else "all weights"
        _say(f"{made.adapter}: {what}, loss {made.loss:.4f} in the last steps")


def _say(line: str) -> None:
    """Names may have letters that the terminal lacks."""
    encoding = sys.stdout.encoding or "ascii"
    print(line.encode(encoding, "backslashreplace").decode(encoding))


def _say_aside(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
