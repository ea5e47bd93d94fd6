"""How the parts of a sample lie on each other: references and masks on what is learnt."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from ltx_models.errors import UserError
from ltx_train.data.samples import Part, Sample

FACTOR_NAMES = ("reference_spatial_scale_factor", "reference_temporal_scale_factor")  # in metadata


class Factors(NamedTuple):
    """How many times smaller and slower a reference is than its clip."""

    spatial: int
    temporal: int


AS_LARGE = Factors(1, 1)  # as references of the sound are


class _Found(NamedTuple):
    """Factors of one sample; a single latent frame leaves the temporal one open."""

    spatial: int
    temporal: int | None
    part: Part


def check_masks(sample: Sample) -> None:
    """Raise UserError for a mask that does not lie on its latents, one value a token."""
    for part in sample.parts.values():
        if part.role.endswith("mask"):
            target = sample.part("video" if part.role == "video_mask" else "audio")
            grid = target.shape[1:4] if part.role == "video_mask" else target.shape[1:2]
            if part.shape != grid:
                raise UserError(
                    f"{part.file.path}: a mask of {_times(part.shape)}; the latents it is for are "
                    f"{_times(grid)}"
                )


def check_audio_references(sample: Sample) -> None:
    """Raise UserError for a reference of the sound with other channels or bins."""
    for part in sample.parts.values():
        if part.role == "audio_reference":
            channels, _, bins = sample.part("audio").shape
            if (part.shape[0], part.shape[2]) != (channels, bins):
                raise UserError(
                    f"{part.file.path}: a reference of {part.shape[0]} channels x {part.shape[2]} "
                    f"bins; its sound has {channels} x {bins}"
                )


def reference_factors(samples: Sequence[Sample], folder: str) -> Factors:
    """The factors of a folder of references of the picture: those that all its samples have.

    They are what the metadata say where they do, else the grids' own. Raises UserError for a grid
    that does not fit, and for two samples that differ.
    """
    found = [_sample_factors(sample.parts[folder], sample.part("video")) for sample in samples]
    first = found[0]
    timed = next((each for each in found if each.temporal is not None), first)
    for each in found:
        _check_same(each, first, (each.spatial, first.spatial), "space")
        if each.temporal is not None:
            _check_same(each, timed, (each.temporal, timed.temporal), "time")
    return Factors(first.spatial, timed.temporal or 1)


def _check_same(one: _Found, other: _Found, factors: tuple[int, int | None], where: str) -> None:
    if factors[0] != factors[1]:
        raise UserError(
            f"{one.part.file.path}: {factors[0]} times smaller than its clip in {where}, but\n"
            f"{other.part.file.path}: {factors[1]} times; one adapter learns one factor"
        )


def _sample_factors(reference: Part, clip: Part) -> _Found:
    said = _said(reference)
    spatial = said[0] or clip.shape[2] // reference.shape[2]
    own, of_clip = reference.shape[1] - 1, clip.shape[1] - 1  # without the first, a frame alone
    temporal = said[1] or (of_clip // own if own and of_clip else None)
    fits = (
        reference.shape[0] == clip.shape[0]
        and spatial > 0
        and (reference.shape[2] * spatial, reference.shape[3] * spatial) == clip.shape[2:]
        and (not own or temporal is None or own * temporal == of_clip)
        and own <= of_clip
    )
    if not fits:
        raise UserError(
            f"{reference.file.path}: a reference of {_times(reference.shape)} latents (channels, "
            f"frames, rows, columns) for a clip of {_times(clip.shape)};\n"
            "whole factors in rows and columns, and in frames but the first, are wanted"
            + (f"; its metadata say {said[0]} and {said[1]}" if any(said) else "")
        )
    return _Found(spatial, temporal, reference)


def _said(part: Part) -> Sequence[int | None]:
    """The factors that the metadata say: in space, in time."""
    return [_whole(part.file.metadata, name) for name in FACTOR_NAMES]


def _whole(metadata: Mapping[str, str], name: str) -> int | None:
    said = metadata.get(name, "")
    return int(said) if said.isdecimal() and int(said) > 0 else None


def _times(sizes: Sequence[int]) -> str:
    return "x".join(map(str, sizes))
