"""What a run is, beside its configuration: its base and its data, found out once at the start."""

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from ltx_infer.hub import Variant
from ltx_models.checkpoint import Checkpoint
from ltx_models.errors import UserError
from ltx_train.config import TrainConfig
from ltx_train.config.validation import SPACE, TIME
from ltx_train.data.dataset import Dataset, version_text
from ltx_train.data.geometry import AS_LARGE, Factors
from ltx_train.data.samples import Sample

LOOKED_AT = 16_384  # bytes of a file: its header, with all that it was made from, and some values


class Facts(NamedTuple):
    """The base and the data of a run."""

    base_file: str  # its name, without its folder
    base_version: str  # "2.3.0"
    variant: Variant | None  # of the base, where it is known
    reference: Factors  # of the picture's references; 1, 1 without any
    data_hash: str  # sixteen hex digits, of what is trained on
    trigger: str | None
    num_with_trigger: int
    sizes: Mapping[str, int]  # samples by width x height x frames, in pixels
    captions: Sequence[tuple[str, str | None]]  # of each sample, after its name
    held_out: Sequence[str]  # names of samples that are not trained on
    notes: Sequence[str]  # what a person should know of the data
    stored: str | None = None  # how the base is quantised as it is stored

    @property
    def resolution(self) -> str | None:
        """Width x height of the largest picture; None for sound alone."""
        pictures = [size.rsplit("x", 1)[0] for size in self.sizes if "x" in size]
        return max(pictures, key=_area, default=None)


def run_facts(
    config: TrainConfig,
    checkpoint: Checkpoint,
    dataset: Dataset,
    *,
    variant: Variant | None = None,
    held: Sequence[Sample] = (),
) -> Facts:
    """Gather the facts of ``dataset``, which is trained on, and of ``held``, which is not.

    ``variant`` is what the files of the model say that the base is.
    Reads the beginnings of the data's files. Raises UserError where the references are of two
    factors: one adapter can only say one.
    """
    samples = sorted([*dataset.samples, *held], key=lambda sample: sample.name)
    trigger = config.data.trigger or _said_trigger(samples)
    captions = [(sample.name, sample.caption) for sample in samples]
    return Facts(
        base_file=checkpoint.path.name,
        base_version=version_text(checkpoint),
        variant=variant,
        reference=_reference(dataset.factors),
        data_hash=data_hash(dataset.samples),
        trigger=trigger,
        num_with_trigger=sum(trigger in (caption or "") for _, caption in captions)
        if trigger
        else 0,
        sizes=dict(Counter(map(size_text, samples)).most_common()),
        captions=captions,
        held_out=[sample.name for sample in held],
        notes=list(dataset.notes),
        stored=next(map(str, checkpoint.quantization.values()), None),
    )


def data_hash(samples: Sequence[Sample]) -> str:
    """Sixteen hex digits of what the samples are made from, wherever they lie.

    Names, sizes and the first 16 KiB of each file decide; in these is the header, in which our
    files have the hash of their source, the caption and the model that made them.
    """
    digest = hashlib.sha256()
    for sample in sorted(samples, key=lambda sample: sample.name):
        files = {"": sample.conditions.path}
        files |= {folder: part.file.path for folder, part in sample.parts.items()}
        for folder in sorted(files):
            path = files[folder]
            digest.update(f"{sample.name}\n{folder}\n{path.stat().st_size}\n".encode())
            digest.update(_beginning(path))
    return digest.hexdigest()[:16]


def size_text(sample: Sample) -> str:
    """Width x height x frames of a clip, in pixels; of a sound the number of its latents."""
    roles = {part.role: part.shape for part in sample.parts.values()}
    if "video" not in roles:
        return f"sound of {roles['audio'][1]} latents"
    _, frames, height, width = roles["video"]
    return f"{width * SPACE}x{height * SPACE}x{(frames - 1) * TIME + 1}"


def _beginning(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(LOOKED_AT)


def _said_trigger(samples: Sequence[Sample]) -> str | None:
    """What ltx-precompute put in front of all captions, where it was one word."""
    said = {sample.conditions.metadata.get("trigger", "") for sample in samples}
    return said.pop() or None if len(said) == 1 else None


def _reference(factors: Mapping[str, Factors]) -> Factors:
    if len(set(factors.values())) > 1:
        listed = ", ".join(
            f"{folder} {each.spatial} in space and {each.temporal} in time"
            for folder, each in factors.items()
        )
        raise UserError(
            f"training_strategy: the references are smaller by two factors: {listed}.\n"
            "An adapter is used with one: precompute them alike"
        )
    return next(iter(factors.values()), AS_LARGE)


def _area(size: str) -> int:
    width, height = size.split("x")
    return int(width) * int(height)
