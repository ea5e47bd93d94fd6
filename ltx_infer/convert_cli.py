"""ltx-convert: a checkpoint into a folder of networks, quantised if asked for, LoRAs fused first.

Only what --help needs is imported here.
"""

import sys
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ltx_infer.command import Parser, run_command, start
from ltx_models.errors import UserError

if TYPE_CHECKING:
    from ltx_infer.hub import ModelFiles
    from ltx_models.converted.request import ConvertRequest
    from ltx_models.lora.adapters import Loras

MODES = ("affine", "mxfp4", "mxfp8", "nvfp4")
UPSCALER_WORDS = ("upscaler", "upsampler")


def main(argv: Sequence[str] | None = None) -> None:
    """Run ltx-convert; exit code 2 and at most four lines for what the user can put right."""
    argv = sys.argv[1:] if argv is None else list(argv)
    run_command("ltx-convert", lambda: _convert(_parser().parse_args(argv)))


def _parser() -> Parser:
    parser = Parser(
        prog="ltx-convert",
        usage="ltx-convert --source SRC --output DIR [options]",
        description="Split a checkpoint into a folder of networks, and quantise its transformer.",
        epilog="On any machine, offline: ltx-convert --source tiny --output tiny-4bit -q 4",
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("--source", metavar="SRC", required=True, help="all that --model of ltx-generate takes")
    add("--output", "-o", metavar="DIR", type=Path, required=True, help="the folder to write")
    add("--variant", choices=("dev", "distilled"), help="what the weights are")
    add("--bits", "-q", type=int, metavar="BITS", help="affine: 2, 3, 4, 5, 6 or 8")
    add("--group-size", type=int, metavar="N", help="values that share a scale: 32, 64 or 128")
    add("--mode", choices=MODES, help="how values are stored; affine where only -q is given")
    add(
        "--lora",
        nargs="+",
        action="append",
        default=[],
        metavar="PATH [STRENGTH [AUDIO]]",
        help="fuse a LoRA before quantising; repeatable",
    )
    add("--lora-allow-unmatched", action="store_true", help="go on with keys that fit nowhere")
    add("--compensate", type=int, metavar="RANK", help="adapters that make up for quantising")
    add("--text-encoder-repo", metavar="DIR", help="the Gemma 3 that --compensate reads with")
    add(
        "--allow-unknown-config",
        action="append",
        default=[],
        metavar="KEY",
        help="pass over a key of the configuration; repeatable",
    )
    add("--dry-run", action="store_true", help="print the plan and write nothing")
    add("--overwrite", action="store_true", help="replace a converted folder that is there")
    return parser


def _convert(args: Namespace) -> None:
    start()

    from ltx_infer.progress import StageLines
    from ltx_models.converted.plan import size_text
    from ltx_models.converted.write import check_disk, check_place, convert

    request = request_of(args)
    if args.dry_run:
        from ltx_models.converted.conversion import plan_conversion

        conversion = plan_conversion(request)
        check_place(conversion)
        check_disk(conversion)
        for line in (*conversion.notes, *conversion.lines()):
            print(line)
        return
    with StageLines() as report:
        done = convert(request, say=_say, report=report)
    print(f"{request.output}: {size_text(done.num_bytes)}")


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def request_of(args: Namespace) -> "ConvertRequest":
    """What is asked, with every file found. Raises UserError for what is not there."""
    from ltx_infer.hub import find_model
    from ltx_models.converted.request import ConvertRequest
    from ltx_models.quantize import quantization

    how = None
    if args.bits is not None or args.mode is not None:
        how = quantization(args.bits, mode=args.mode or "affine", group_size=args.group_size)
    elif args.group_size is not None:
        raise UserError("--group-size: for -q BITS or --mode")
    if args.lora_allow_unmatched and not args.lora:
        raise UserError("--lora-allow-unmatched: for a --lora PATH")
    if args.text_encoder_repo and args.compensate is None:
        raise UserError("--text-encoder-repo: for --compensate RANK")
    files = find_model(args.source, variant=args.variant or "distilled", flag="--source", say=_say)
    loras = _loras(args.lora)
    upscalers, distilled_loras = _companions(files, loras)
    request = ConvertRequest(
        source=files.checkpoint,
        output=args.output.expanduser(),
        variant=_variant(args.variant, files, loras),
        how=how,
        loras=loras,
        lora_allow_unmatched=args.lora_allow_unmatched,
        compensate=args.compensate,
        gemma=None if args.compensate is None else files.text_encoder(args.text_encoder_repo),
        upscalers=tuple(upscalers),
        distilled_loras=tuple(distilled_loras),
        allow_unknown=tuple(args.allow_unknown_config),
        overwrite=args.overwrite,
    )
    for note in files.notes:
        _say(note)
    return request


def _variant(asked: str | None, files: "ModelFiles", loras: "Loras") -> str | None:
    """What the result is: what is asked, else dev with its distilled LoRA, else the source's."""
    from ltx_models.lora.files import is_distilled

    if asked is not None:
        return asked
    distilled = [s for file, s in loras if is_distilled(file.path) and s.video >= 1]
    if distilled and files.variant != "distilled":
        _say("variant distilled, as the distilled LoRA is fused; --variant says otherwise")
        return "distilled"
    if files.variant is None:
        _say("neither dev nor distilled is said of the source; --variant says which it is")
    return files.variant


def _loras(given: Sequence[Sequence[str]]) -> "Loras":
    from ltx_infer.pipeline.find_lora import find_lora
    from ltx_models.lora.adapters import Strength
    from ltx_models.lora.files import read_lora

    found = []
    for path, *strengths in given:
        if len(strengths) > 2:
            given = " ".join(strengths)
            raise UserError(f"--lora {path}: a strength and one for sound at most, not {given}")
        found.append((read_lora(find_lora(path)), Strength(*map(_number, strengths))))
    return tuple(found)


def _number(text: str) -> float:
    from math import isfinite

    try:
        number = float(text)
    except ValueError:
        number = float("nan")
    if not isfinite(number):
        raise UserError(f"--lora: {text!r} is no strength")
    return number


def _companions(files: "ModelFiles", loras: "Loras") -> tuple[list[Path], list[Path]]:
    """Upscalers, and distilled LoRAs unless one is fused, of the source's folder or repository.

    Of several generations those of the source's.
    """
    from ltx_infer.hub.fetch import take
    from ltx_infer.hub.names import WEIGHTS, distilled_loras, generation
    from ltx_models.lora.files import is_distilled

    weights = [name for name in files.place.names if name.endswith(WEIGHTS)]
    if own := generation(files.checkpoint.name):
        weights = [name for name in weights if generation(name) in (None, own)]
    upscalers = [name for name in weights if any(word in name for word in UPSCALER_WORDS)]
    fused = any(is_distilled(file.path) for file, _ in loras)
    distilled = [] if fused else distilled_loras(weights)
    folder = take(files.place, [*upscalers, *distilled], flag="--source", say=_say)
    return [folder / name for name in upscalers], [folder / name for name in distilled]
