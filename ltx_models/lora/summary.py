"""What a LoRA file changes: by kind of layer how much, and what of it does nothing."""

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from statistics import median
from typing import NamedTuple, cast

import mlx.core as mx

from ltx_models.lora.entries import Entry
from ltx_models.lora.files import LoRAFile, is_audio
from ltx_models.lora.names import Names, in_text_path
from ltx_models.lora.updates import Update

# Parts of a path, and what a line calls the layers below them.
ACROSS = {
    "audio_to_video_attn": "picture from sound",
    "video_to_audio_attn": "sound from picture",
}
KINDS = {
    "attn1": "self-attention",
    "attn2": "text attention",
    "ff": "feed-forward",
}
UNMATCHED = "unmatched"  # the kind of what is no layer of LTX-2
NEARLY_DEAD = 1e-4  # of the median norm
BLOCK = re.compile(r"blocks\.(\d+)\.")


class Part(NamedTuple):
    """The layers of one kind, over all blocks."""

    name: str
    blocks: str  # "0-47", or "" for layers outside blocks
    paths: tuple[str, ...]
    ranks: tuple[int, ...]
    norm: float  # of all updates together, at strength 1
    largest: float
    largest_at: str  # a path


class Summary(NamedTuple):
    """A file's updates, by kind of layer."""

    parts: tuple[Part, ...]
    dead: tuple[str, ...]  # layers whose update is zero
    nearly_dead: tuple[str, ...]  # and those far below all others
    unknown: tuple[str, ...]  # the file's names that are no layer of LTX-2


def summary(file: LoRAFile, names: Names) -> Summary:
    """Measure every update of a file, one at a time; ``names`` are those of the layers there are.

    Norms are Frobenius', from the factors. Those of DoRA are of its LoRA alone, as the whole
    depends on the weight that it is put on.
    """
    meant = {name: names.find(name) for name in file.entries}
    known = {name: min(paths) for name, paths in meant.items() if paths}
    norms: dict[str, float] = {}
    updates = file.updates()
    for name in tuple(updates):
        norms[known.get(name, name)] = norm(updates.pop(name))
    entries = {known.get(name, name): entry for name, entry in file.entries.items()}
    by_kind: dict[str, list[str]] = defaultdict(list)
    paths = set(known.values())
    for path in entries:
        by_kind[kind(path) if path in paths else UNMATCHED].append(path)
    parts = [_part(name, paths, entries, norms) for name, paths in by_kind.items()]
    usual = median([size for size in norms.values() if size] or [0.0])
    return Summary(
        parts=tuple(sorted(parts, key=lambda part: part.name)),
        dead=tuple(path for path, size in norms.items() if not size),
        nearly_dead=tuple(p for p, size in norms.items() if 0 < size < NEARLY_DEAD * usual),
        unknown=tuple(name for name in file.entries if name not in known),
    )


def _part(
    name: str, paths: Sequence[str], entries: Mapping[str, Entry], norms: Mapping[str, float]
) -> Part:
    largest = max(paths, key=lambda path: norms[path])
    return Part(
        name=name,
        blocks=_ranges(int(match[1]) for path in paths if (match := BLOCK.search(path))),
        paths=tuple(paths),
        ranks=tuple(sorted({entries[path].rank for path in paths})),
        norm=sum(norms[path] ** 2 for path in paths) ** 0.5,
        largest=norms[largest],
        largest_at=largest,
    )


def norm(update: Update) -> float:
    """The Frobenius norm of what an update adds to a weight; of the bias where that is all.

    Of s B A it is s sqrt(<B'B, A A'>), two products of rank by rank, and of a Kronecker product
    that of one half times that of the other.
    """
    if update.low_rank is not None:
        A, B, scale = update.low_rank
        A, B = A.astype(mx.float32), B.astype(mx.float32)
        square = scale**2 * ((B.T @ B) * (A @ A.T)).sum()
        return max(cast(float, square.item()), 0.0) ** 0.5
    if update.kron is not None:
        return abs(update.kron.scale) * _size(update.kron.w1) * _size(update.kron.w2)
    change = update.dense if update.dense is not None else update.bias
    return 0.0 if change is None else _size(change)


def kind(path: str) -> str:
    """What a layer is called in a line: whose it is, and what it does."""
    if in_text_path(path):
        return "text path"
    parts = path.split(".")
    if across := next((ACROSS[part] for part in parts if part in ACROSS), None):
        return across
    found = next((KINDS[n] for p in parts if (n := p.removeprefix("audio_")) in KINDS), None)
    stream = "sound" if is_audio(path) else "picture"
    return f"{stream} {found or 'time, input and output'}"


def _size(x: mx.array) -> float:
    return cast(float, mx.sqrt(x.astype(mx.float32).square().sum()).item())


def _ranges(numbers: Iterable[int]) -> str:
    """0, 1, 2, 5 as "0-2, 5"."""
    ends: list[list[int]] = []
    for number in sorted(set(numbers)):
        if ends and number == ends[-1][1] + 1:
            ends[-1][1] = number
        else:
            ends.append([number, number])
    return ", ".join(f"{a}-{b}" if a != b else f"{a}" for a, b in ends)
