"""What is chosen so that a run fits the memory, and what to change where it does not."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

from ltx_infer.config import GenerateConfig
from ltx_infer.hub.place import shown_size
from ltx_infer.plan.decode import LatentSize
from ltx_infer.plan.parts import On, decode_part
from ltx_infer.plan.plan import Choices, Plan, Run, make_plan, parts_table, tokens_lines
from ltx_infer.sampling.guidance import needed_passes
from ltx_models.checkpoint import Checkpoint
from ltx_models.device import memory_limits
from ltx_models.errors import UserError
from ltx_models.video_vae.frames import TilingName

TILINGS: tuple[TilingName, ...] = ("auto", "conservative", "aggressive")  # the larger ones first
# Of a run's memory: what MLX may keep of freed buffers at most, and though the plan leaves none.
CACHE_SHARE, LEAST_CACHE_SHARE = 8, 64
FEWER = (65, 33, 17, 9)  # frames
TIGHTEST_ENCODER = "mlx-community/gemma-3-12b-it-4bit"


class Chosen(NamedTuple):
    """The choices of a run, and the plan that they make."""

    choices: Choices
    plan: Plan


def choose(run: Run, config: GenerateConfig, on: On, *, limit: int) -> Chosen:
    """What was asked for; of what was not, the most that fits: passes at once, and tiles.

    Where nothing fits, the least. ``limit`` is in bytes.
    """
    most = max(len(needed_passes(stage.guidance)) for stage in run.recipe.stages)
    choices = Choices(
        bits=config.quantize,
        low_memory=config.low_memory,
        tiling=config.tiling,
        max_batch_size=config.max_batch_size or most,
    )
    found = Chosen(choices, make_plan(run, choices, on))
    while found.plan.total > limit:
        smaller = _smaller(config, found, limit=limit)
        if smaller is None:
            break
        found = Chosen(smaller, make_plan(run, smaller, on))
    return found


def _smaller(config: GenerateConfig, found: Chosen, *, limit: int) -> Choices | None:
    """The next smaller choice of what nobody asked for, where it bears on what does not fit."""
    choices = found.choices
    over = [part.name for part in found.plan.parts if part.total > limit]
    if config.tiling == "auto" and "decode" in over and choices.tiling != TILINGS[-1]:
        return choices._replace(tiling=TILINGS[TILINGS.index(choices.tiling) + 1])
    stages = any(name.startswith(("stage", "sampling")) for name in over)
    if config.max_batch_size is None and stages and choices.max_batch_size > 1:
        return choices._replace(max_batch_size=choices.max_batch_size - 1)
    return None


def check_fit(run: Run, config: GenerateConfig, chosen: Chosen, on: On, *, limit: int) -> None:
    """Raise UserError where the plan takes more than ``limit`` bytes, unless that is forced."""
    if chosen.plan.total <= limit or config.force:
        return
    found = cheapest(run, config, chosen, on, limit=limit)
    raise UserError(
        f"memory: this run takes {chosen.plan}, and {shown_size(limit)} are there for it.\n"
        f"{found}. To try it all the same: --force"
    )


def cheapest(run: Run, config: GenerateConfig, chosen: Chosen, on: On, *, limit: int) -> str:
    """The change that costs the least of those that are enough, in words."""
    if chosen.plan.largest.name.startswith("text"):
        return f"--text-encoder-repo {TIGHTEST_ENCODER} takes less"
    changes = list(_changes(run, config, chosen.choices))
    together = [changes[:number] for number in range(2, len(changes) + 1)]
    for tried in [*([each] for each in changes), *together]:
        smaller, choices = run, chosen.choices
        for change in tried:
            choices = choices._replace(**change.choices)
            if change.num_frames is not None:
                smaller = run._replace(size=run.size._replace(num_frames=change.num_frames))
        plan = make_plan(smaller, choices, on)
        if plan.total <= limit:
            words = {each.flag: each.value for each in tried}  # the last of those alike
            written = " ".join(" ".join(filter(None, pair)) for pair in words.items())
            return f"{written} would take {shown_size(plan.total)}"
    return "Make the clip smaller or shorter"


class _Change(NamedTuple):
    """What to write, and what comes of it."""

    flag: str
    value: str = ""
    choices: Mapping[str, Any] = {}  # fields of Choices
    num_frames: int | None = None


def _changes(run: Run, config: GenerateConfig, choices: Choices) -> Iterator[_Change]:
    """What costs the least comes first."""
    if choices.max_batch_size > 1:
        yield _Change("--max-batch-size", "1", {"max_batch_size": 1})
    if run.decodes:
        at = TILINGS.index(choices.tiling) + 1 if choices.tiling in TILINGS else 0
        for name in TILINGS[at:]:
            yield _Change("--tiling", name, {"tiling": name})
    stored = bool(run.models.checkpoint.quantization)
    for bits in (8, 4):
        if run.samples and not stored and (choices.bits or 16) > bits:
            yield _Change("-q", str(bits), {"bits": bits})
    if run.samples and not choices.low_memory:
        yield _Change("--low-memory", choices={"low_memory": True})
    if not config.given("video"):
        for frames in (each for each in FEWER if each < run.size.num_frames):
            yield _Change("--num-frames", str(frames), num_frames=frames)


def fitting_tiling(
    checkpoint: Checkpoint, size: LatentSize, name: TilingName, on: On, *, limit: int
) -> TilingName:
    """The tiles of a picture of latents that is only to be decoded; for auto the most that fits."""
    if name != "auto":
        return name
    for each in TILINGS:
        if decode_part(checkpoint, size, each, on).total <= limit:
            return each
    return TILINGS[-1]


def told(run: Run, chosen: Chosen, *, limit: int) -> list[str]:
    """A plan as a person reads it."""
    choices = chosen.choices
    return [
        *tokens_lines(run, choices),
        f"tiling: {choices.tiling}",
        "expected peak of memory, by part:",
        *(f"  {line}" for line in parts_table(chosen.plan)),
        f"in all {shown_size(chosen.plan.total)}, of {shown_size(limit)} that a run may take here",
    ]


@contextmanager
def limits_for(plan: Plan, *, limit: int) -> Iterator[None]:
    """Hold MLX to so many bytes, and what it keeps of freed ones to what the plan leaves of them.

    Else what it keeps grows with every size that comes by, until a machine swaps.
    """
    cache = min(limit // CACHE_SHARE, max(limit - plan.total, limit // LEAST_CACHE_SHARE))
    with memory_limits(limit, cache=cache):
        yield


def compared(plan: Plan, measured: int) -> str:
    """The line at the end of a run; ``measured`` in bytes."""
    return f"memory: planned {shown_size(plan.total)}, measured {shown_size(measured)}"
