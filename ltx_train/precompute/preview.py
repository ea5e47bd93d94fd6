"""preview.html: each clip's source beside its decoded latents, the worst first."""

import math
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

from ltx_infer.progress import Report
from ltx_models.audio_vae import load_audio_decoder, load_vocoder
from ltx_models.checkpoint import Checkpoint
from ltx_models.device import compute_dtype
from ltx_models.files import write_text
from ltx_models.video_vae import load_video_decoder
from ltx_train.data.dataset import version_text
from ltx_train.data.layout import LATENTS, Kind
from ltx_train.inputs.item import Outcome
from ltx_train.inputs.sheet import Seen
from ltx_train.precompute.card import Card, Decoders, Stored, make_card
from ltx_train.precompute.config import PrecomputeConfig
from ltx_train.precompute.store import BETWEEN
from ltx_train.precompute.tasks import make_plan, tasks_of
from ltx_train.precompute.text import KEPT
from ltx_train.reading.decode import Job
from ltx_train.report.page import Html, facts, find_box, note, page, section, table, tag

PREVIEW = "preview.html"
MOST_CARDS = 32  # some 0.5 MB each
MOST_ROWS = 2000  # some 4 kB each
COLUMNS = ["source, decoded", "clip", "PSNR in dB", "bucket", "fps", "caption"]
SHOWN_KINDS: tuple[Kind, ...] = (LATENTS, "audio_latents", "reference_latents", "video_masks")


def write_preview(
    config: PrecomputeConfig,
    seen: Sequence[Seen],
    outcomes: Sequence[Outcome],
    checkpoint: Checkpoint,
    *,
    report: Report,
) -> Path:
    """Decode what was stored of the clips that are done, and write the page; its path.

    One clip is in memory at a time. Raises UserError for a damaged file and for a full disk.
    """
    stored = list(_stored(config, seen, outcomes, checkpoint))
    cards = list(_cards(stored, config.output_dir, checkpoint, report=report)) if stored else []
    path = config.output_dir / PREVIEW
    write_text(path, _page(config, seen, outcomes, sorted(cards, key=_badness), checkpoint))
    return path


def _stored(
    config: PrecomputeConfig,
    seen: Sequence[Seen],
    outcomes: Sequence[Outcome],
    checkpoint: Checkpoint,
) -> Iterator[Stored]:
    """The clips that are done, with the jobs that read their sources."""
    plan = make_plan(config, checkpoint, seen)
    jobs: dict[str, dict[Kind, Job]] = defaultdict(dict)
    for kind in SHOWN_KINDS:
        for task in tasks_of(kind, seen, plan):
            if task.path.exists():
                jobs[task.item.name][kind] = task.job
    remarks = {one.name: one.reason for one in outcomes if one.status == "done"}
    for one in seen:
        name = one.item.name
        if name in remarks and LATENTS in jobs[name]:
            said = (part for part in remarks[name].split(BETWEEN) if part != KEPT)
            yield Stored(name, Path(one.item.stem), jobs[name], BETWEEN.join(said))


def _cards(
    stored: Sequence[Stored], root: Path, checkpoint: Checkpoint, *, report: Report
) -> Iterator[Card]:
    """A card a clip; only the worst ones in full."""
    video = load_video_decoder(checkpoint, dtype=compute_dtype())
    decoders = Decoders(video, None, None)
    if any("audio_latents" in one.jobs for one in stored):
        sound = load_audio_decoder(checkpoint, dtype=compute_dtype())
        decoders = Decoders(video, sound, load_vocoder(checkpoint))
    worst: list[Card] = []
    report("preview", 0, len(stored))
    for done, one in enumerate(stored, start=1):
        worst = sorted([*worst, make_card(one, root, decoders)], key=_badness)
        if len(worst) > MOST_CARDS:
            yield worst.pop()._replace(full=None)
        report("preview", done, len(stored))
    yield from worst


def _badness(card: Card) -> tuple[float, str]:
    """What cannot be compared comes first, then what is least like its source."""
    return (-math.inf if math.isnan(card.psnr) else card.psnr), card.name


def _page(
    config: PrecomputeConfig,
    seen: Sequence[Seen],
    outcomes: Sequence[Outcome],
    cards: Sequence[Card],
    checkpoint: Checkpoint,
) -> str:
    names = {card.name for card in cards}
    made = tag("p", f"LTX {version_text(checkpoint)}, {config.output_dir}", class_="soft")
    return page(
        f"What was precomputed: {config.output_dir.resolve().name}",
        made,
        *_totals([one for one in seen if one.item.name in names], outcomes),
        _clips(cards),
        _left_out(outcomes),
    )


def _totals(seen: Sequence[Seen], outcomes: Sequence[Outcome]) -> list[Html]:
    """Numbers of the whole, and a table of the buckets."""
    counts = Counter(outcome.status for outcome in outcomes)
    seconds: dict[str, float] = defaultdict(float)
    for one in seen:
        seconds[str(one.bucket)] += 0.0 if one.is_still else float(one.bucket.num_frames / one.fps)
    clips = Counter(str(one.bucket) for one in seen)
    numbers = facts(
        [
            ("clips", sum(not one.is_still for one in seen)),
            ("stills", sum(one.is_still for one in seen)),
            ("seconds", sum(seconds.values())),
            ("captions", len({one.item.caption for one in seen if one.item.caption})),
            ("skipped", counts["skipped"]),
            ("failed", counts["failed"]),
        ]
    )
    rows = [[bucket, count, seconds[bucket]] for bucket, count in clips.most_common()]
    buckets = table(["bucket", "clips and stills", "seconds"], rows)
    return [numbers, section("Buckets", buckets)] if rows else [numbers]


def _clips(cards: Sequence[Card]) -> Html:
    if not cards:
        return section("Clips", note("There is nothing to be seen: no clip was encoded."))
    full = [card.full for card in cards if card.full]
    rest = [card.row for card in cards if not card.full]
    said = [
        "Source: frames as they were encoded, from the first to the last. Decoded: what their "
        "latents decode to. PSNR compares the two; the least alike come first."
    ]
    if rest:
        said.append(f" The {len(full)} worst are shown in full, the others in the table below.")
    if len(rest) > MOST_ROWS:
        said.append(f" Of these {len(rest)} it has the {MOST_ROWS} worst.")
    parts = [note(*said), find_box("a clip or a word of its caption"), *full]
    return section("Clips", *parts, table(COLUMNS, rest[:MOST_ROWS]) if rest else None)


def _left_out(outcomes: Sequence[Outcome]) -> Html:
    rows = [list(outcome) for outcome in sorted(outcomes) if outcome.status != "done"]
    what = table(["file", "what became of it", "why"], rows, empty="Nothing was left out.")
    return section("Skipped and failed", what)
