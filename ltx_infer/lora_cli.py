"""ltx-lora: what a LoRA is, in the form that another program reads, and into a model's weights.

Only what --help needs is imported here; each command imports what it runs.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from ltx_infer.command import Parser, run_command, start
from ltx_models.errors import UserError

FORMS = ("ours", "comfyui", "diffusers")


def main(argv: Sequence[str] | None = None) -> None:
    """Run ltx-lora; exit code 2 and at most four lines for what the user can put right."""
    parser = _parser()
    argv = sys.argv[1:] if argv is None else list(argv)
    run_command(parser.prog, lambda: _run(parser.parse_args(argv)))


def _run(args: argparse.Namespace) -> None:
    args.run(args)


def _parser() -> Parser:
    parser = Parser(
        prog="ltx-lora",
        description="What a LoRA is and whether it fits; the same LoRA for another program.",
        allow_abbrev=False,
    )
    commands = parser.add_subparsers(metavar="COMMAND", required=True, parser_class=Parser)
    about = commands.add_parser("inspect", help="what a file changes, and whether it fits a model")
    about.add_argument(
        "file", metavar="FILE", help="a file, a folder, a training run, or user/repo"
    )
    about.add_argument("--model", metavar="MODEL", help="does it fit this one, as of ltx-generate")
    about.add_argument("--json", action="store_true", help="all of it, as JSON")
    about.set_defaults(run=_inspect)
    other = commands.add_parser("convert", help="write it in another form")
    other.add_argument(
        "file", metavar="FILE", help="a file, a folder, a training run, or user/repo"
    )
    other.add_argument("--output", type=Path, required=True, metavar="OUT", help="what to write")
    other.add_argument(
        "--to",
        choices=FORMS,
        default=FORMS[0],
        help="ours (default): lora_A and lora_B, as ComfyUI and PEFT read them too; comfyui: with "
        "alpha, and other families than LoRA; diffusers: under its names",
    )
    other.add_argument("--repair", action="store_true", help="put scrambled factors right")
    other.set_defaults(run=_convert)
    into = commands.add_parser("fuse", help="into the weights of a model, in a folder of its own")
    into.add_argument("--model", required=True, metavar="MODEL", help="as of ltx-generate")
    into.add_argument(
        "--lora",
        nargs="+",
        action="append",
        required=True,
        metavar="PATH [STRENGTH [AUDIO]]",
        help="repeatable",
    )
    into.add_argument("--output", type=Path, required=True, metavar="DIR", help="what to write")
    into.add_argument("--variant", choices=("dev", "distilled"), help="what the weights are")
    into.add_argument(
        "--fuse-anyway",
        "--lora-fuse-anyway",
        action="store_true",
        help="also where quantised weights keep too little of it",
    )
    into.add_argument(
        "--lora-allow-unmatched", action="store_true", help="go on with keys that fit nowhere"
    )
    into.set_defaults(run=_fuse)
    return parser


def _inspect(args: argparse.Namespace) -> None:
    start()

    import json

    from ltx_infer.hub import find_model
    from ltx_infer.lora_report import inspect
    from ltx_infer.pipeline.find_lora import find_lora
    from ltx_models.checkpoint import open_checkpoint
    from ltx_models.lora.files import read_lora

    file = read_lora(find_lora(args.file, flag="inspect"))
    checkpoint = None
    if args.model is not None:
        found = find_model(args.model, variant="distilled")
        checkpoint = open_checkpoint(found.checkpoint)
    report = inspect(file, checkpoint)
    if args.json:
        print(json.dumps(report, indent=2))
    else:
        _show(report)


def _show(report: dict) -> None:
    """A table with colours on a terminal, else plain lines."""
    from ltx_infer.lora_report import COLUMNS, findings, lines, rows

    for word, text in lines(report):
        _say(f"{word:11} {text}")
    if sys.stdout.isatty():
        from rich.console import Console
        from rich.table import Table

        table = Table(*COLUMNS)
        for row in rows(report):
            table.add_row(*row)
        Console().print(table)
    else:
        cells = [COLUMNS, *rows(report)]
        widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
        for row in cells:
            _say("  ".join(f"{cell:{n}}" for cell, n in zip(row, widths, strict=True)).rstrip())
    for line in findings(report):
        _say(line)


def _convert(args: argparse.Namespace) -> None:
    start()

    from ltx_infer.pipeline.find_lora import find_lora
    from ltx_models.files import write_tensors
    from ltx_models.lora.convert import converted
    from ltx_models.lora.files import read_lora

    path, output = find_lora(args.file, flag="convert"), args.output.expanduser()
    if output.suffix != ".safetensors":
        raise UserError(f"--output {output}: a name that ends in .safetensors would fit")
    if output.exists() and output.samefile(path):
        raise UserError(f"--output {output}: is the file that is read; give another name")
    file = read_lora(path)
    made = converted(file, args.to, repair=args.repair)
    write_tensors(output, made.tensors, made.metadata)
    if file.scrambled and not args.repair:
        print("its factors look scrambled; --repair puts them right", file=sys.stderr)
    _say(f"{output}: {len(file.entries)} layers, {args.to}")


def _fuse(args: argparse.Namespace) -> None:
    start()

    from ltx_infer.convert_cli import request_of
    from ltx_infer.progress import StageLines
    from ltx_models.checkpoint import open_checkpoint
    from ltx_models.converted.plan import size_text
    from ltx_models.converted.requantise import fuse_folder
    from ltx_models.converted.write import convert

    request = request_of(_as_conversion(args))
    checkpoint = open_checkpoint(request.source)
    with StageLines() as report:
        if checkpoint.quantization:
            size = fuse_folder(
                checkpoint, request, anyway=args.fuse_anyway, say=_say_aside, report=report
            )
        elif args.fuse_anyway:
            raise UserError("--fuse-anyway: these weights are not quantised, and keep all of it")
        else:
            size = convert(request, say=_say_aside, report=report).num_bytes
    _say(f"{request.output}: {size_text(size)}")


def _as_conversion(args: argparse.Namespace) -> argparse.Namespace:
    """What ltx-convert would be asked to write the same, without quantising."""
    return argparse.Namespace(
        source=args.model,
        output=args.output,
        lora=args.lora,
        lora_allow_unmatched=args.lora_allow_unmatched,
        allow_unknown_config=[],
        overwrite=False,
        variant=args.variant,
        **dict.fromkeys(("bits", "group_size", "mode", "compensate", "text_encoder_repo")),
    )


def _say_aside(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _say(line: str) -> None:
    """Names may have letters that the terminal lacks."""
    encoding = sys.stdout.encoding or "ascii"
    print(line.encode(encoding, "backslashreplace").decode(encoding))
