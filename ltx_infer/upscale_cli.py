"""ltx-upscale: a picture or a video larger, or with twice the frames, its sound as it was.

Only what --help needs is imported here.
"""

import argparse
import os
import sys
from collections.abc import Sequence

from ltx_infer.command import Parser, print_line, require_mlx, run_command, start


def main(argv: Sequence[str] | None = None) -> None:
    """Run ltx-upscale; exit code 2 and at most four lines for what the user can put right."""
    argv = sys.argv[1:] if argv is None else list(argv)
    events = "--json" in argv
    run_command("ltx-upscale", lambda: _upscale(_parser().parse_args(argv)), events=events)


def _parser() -> Parser:
    parser = Parser(
        prog="ltx-upscale",
        usage="ltx-upscale --input FILE --output FILE [options]",
        description="Make a picture or a video larger, or give it twice the frames.",
        epilog="On any machine, offline: ltx-upscale --model tiny --input a.mp4 --output b.mp4",
        allow_abbrev=False,
        argument_default=argparse.SUPPRESS,
    )
    add = parser.add_argument
    add("--input", "-i", metavar="FILE", help="a picture, or a video of any length")
    add(
        "--output",
        "-o",
        metavar="FILE",
        help="of the same kind: .png .jpg .webp, or .mp4 .mov .webm .gif",
    )
    add("--model", metavar="MODEL", help="as for ltx-generate (Lightricks/LTX-2)")
    add("--token", metavar="TOKEN", help="for the hub, in place of HF_TOKEN")
    add("--scale", type=float, metavar="X", help="2 or 1.5 (2; with --temporal alone 1)")
    add("--spatial-upscaler", metavar="NAME", help="x2-1.0, x2-1.1, x1.5-1.0 or a file")
    add("--temporal", action="store_true", help="twice the frames in the same time")
    add("--tiling", metavar="HOW", help="auto (default), none, conservative, aggressive")
    add(
        "--allow-unknown-config",
        action="append",
        metavar="KEY",
        help="pass over a key of the configuration; repeatable",
    )
    add("--json", action="store_true", help="events on stdout, a line of JSON each")
    refine = parser.add_argument_group("refining")
    add = refine.add_argument
    add("--refine", action="store_true", help="sample what is upscaled, as a second stage does")
    add("--prompt", "-p", metavar="TEXT", help="what is seen")
    add("--seed", "-s", type=int, metavar="N", help="same seed, same result (42)")
    add("--text-encoder-repo", metavar="DIR", help="the Gemma 3 that reads the prompt")
    add("--quantize", "-q", type=int, metavar="BITS", help="quantise at load: 4, 6 or 8")
    add("--low-memory", action="store_true", help="read the transformer from disk in each step")
    return parser


def _upscale(args: argparse.Namespace) -> None:
    given = vars(args)
    if (token := given.pop("token", None)) is not None:
        os.environ["HF_TOKEN"] = token  # all that asks the hub reads it there
    require_mlx()

    from ltx_infer.config import checked
    from ltx_infer.events import WrittenFile, reporting
    from ltx_infer.upscale.config import UpscaleConfig

    with reporting(events=given.pop("json", False)) as to:
        config = checked(UpscaleConfig, given)
        to.started("ltx-upscale", [config])
        start(to.say)

        from ltx_infer.upscale.run import upscale

        made = upscale(config, report=to.report, say=to.say)
        frames = f"{made.num_frames} frames, " if made.kind == "clip" else ""
        print_line(f"{made.path}: {frames}{made.width}x{made.height}")
        count = made.num_frames if made.kind == "clip" else None
        to.send(WrittenFile(path=str(made.path), kind=made.kind, num_frames=count))
        to.finished([made.path])
