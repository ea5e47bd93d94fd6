"""What a clip is made to contain, as clean tokens and a denoise mask (spec/model.md part 9).

Conditions are data, applied in the order of a list. Some write over the clip's own tokens; others
append tokens behind them, which the clip attends to and which are cut off after sampling.
Letters: B batch, T tokens, M appended tokens, C channels, F H W latent frames, rows, columns.
"""

from collections.abc import Iterable
from typing import NamedTuple

import mlx.core as mx
import numpy as np

from ltx_infer.sampling.state import State
from ltx_models.errors import UserError
from ltx_models.transformer.patchify import VideoScale, patchify_video, video_bounds

Attention = float | np.ndarray | None  # a weight in [0, 1], one for each token (B, M), or full


class Grid(NamedTuple):
    """Latent frames, rows and columns of the stage, its frames a second, and what a latent is."""

    size: tuple[int, int, int]
    fps: float
    scale: VideoScale

    @property
    def num_frames(self) -> int:
        """Pixel frames of the clip."""
        return (self.size[0] - 1) * self.scale.time + 1


class LatentIndex(NamedTuple):
    """Latent frames (B, C, F, H, W) in place of the clip's own, from one of them on."""

    latents: mx.array
    strength: float = 1.0
    latent_index: int = 0


class Keyframe(NamedTuple):
    """Latents (B, C, F, H, W) beside the clip, as a guide from pixel frame ``frame`` on."""

    latents: mx.array
    frame: int
    strength: float = 1.0
    num_pixel_frames: int = 1  # that the latents were made of
    attention: Attention = None


class Reference(NamedTuple):
    """A whole clip (B, C, F, H, W) for an IC-LoRA to look at.

    It may be smaller than the clip by ``space_factor``, with fewer frames by ``time_factor``.
    """

    latents: mx.array
    strength: float = 1.0
    space_factor: int = 1
    time_factor: int = 1
    attention: Attention = None


class Mask(NamedTuple):
    """Latents (B, C, F, H, W) of the clip's size, given where ``mask`` (B, F, H, W) is 1."""

    latents: mx.array
    mask: np.ndarray
    strength: float = 1.0


class TemporalRegion(NamedTuple):
    """Seconds of the clip to generate again; all others stay as the state's clean tokens."""

    start: float
    end: float


class AudioIndex(NamedTuple):
    """Sound tokens (B, M, C) in place of the clip's own, from one of them on."""

    tokens: mx.array
    strength: float = 1.0
    latent_index: int = 0


class ReferenceAudio(NamedTuple):
    """Sound tokens (B, M, C) beside the clip's own, at positions (B, 1, M, 2) in seconds."""

    tokens: mx.array
    positions: np.ndarray
    strength: float = 1.0
    attention: Attention = None


VideoCondition = LatentIndex | Keyframe | Reference | Mask | TemporalRegion
AudioCondition = AudioIndex | ReferenceAudio | TemporalRegion


def condition_video(state: State, conditions: Iterable[VideoCondition], grid: Grid) -> State:
    """Apply conditions of the picture in their order.

    Raises UserError for a strength or an index out of range, and for latents of the wrong size.
    """
    for condition in conditions:
        match condition:
            case LatentIndex():
                state = _replace_frames(state, condition, grid)
            case Keyframe():
                state = _append_keyframe(state, condition, grid)
            case Reference():
                state = _append_reference(state, condition, grid)
            case Mask():
                state = _mask(state, condition, grid)
            case TemporalRegion(start):
                if start >= grid.num_frames / grid.fps:
                    raise UserError(
                        f"time region from {start:g} s: the clip ends at "
                        f"{grid.num_frames / grid.fps:g} s"
                    )
                state = _regenerate(state, condition)
    return state


def condition_audio(state: State, conditions: Iterable[AudioCondition]) -> State:
    """Apply conditions of the sound in their order; raises UserError as ``condition_video``."""
    for condition in conditions:
        match condition:
            case AudioIndex(tokens, strength, index):
                what = f"sound at latent {index}"
                state = _write(state, tokens, index, strength, what=what)
            case ReferenceAudio(tokens, positions, strength, attention):
                what = "reference sound"
                state = _append(state, tokens, positions, strength, attention, what=what)
            case TemporalRegion():
                state = _regenerate(state, condition)
    return state


def _replace_frames(state: State, condition: LatentIndex, grid: Grid) -> State:
    frames, (total, rows, columns) = condition.latents.shape[2], grid.size
    index = condition.latent_index
    what = "first frame" if index == 0 else f"latent frame {index}"
    _check_size(condition.latents, (rows, columns), what=what)
    if not 0 <= index <= total - frames:
        raise UserError(
            f"{what}: {frames} latent frames from there do not fit, the clip has {total}"
        )
    tokens, start = patchify_video(condition.latents), index * rows * columns
    return _write(state, tokens, start, condition.strength, what=what)


def _append_keyframe(state: State, condition: Keyframe, grid: Grid) -> State:
    frame, what = condition.frame, f"keyframe at frame {condition.frame}"
    _check_size(condition.latents, grid.size[1:], what=what)
    if not 0 <= frame < grid.num_frames:
        raise UserError(f"{what}: the clip has frames 0 to {grid.num_frames - 1}")
    bounds = video_bounds(_size(condition.latents), scale=grid.scale, causal=frame == 0)
    bounds[:, 0] += frame
    if condition.num_pixel_frames == 1:
        bounds[:, 0, :, 1] = bounds[:, 0, :, 0] + 1
    bounds[:, 0] /= np.float32(grid.fps)
    tokens = patchify_video(condition.latents)
    return _append(state, tokens, bounds, condition.strength, condition.attention, what=what)


def _append_reference(state: State, condition: Reference, grid: Grid) -> State:
    space, time = condition.space_factor, condition.time_factor
    rows, columns = grid.size[1] // space, grid.size[2] // space
    if grid.size != (grid.size[0], rows * space, columns * space):
        raise UserError(
            f"reference video: a clip of {grid.size[1]}x{grid.size[2]} latent rows and columns "
            f"cannot be divided by {space}"
        )
    _check_size(condition.latents, (rows, columns), what="reference video")
    bounds = video_bounds(_size(condition.latents), scale=grid.scale)
    bounds[:, 0] /= np.float32(grid.fps / time)
    if time != 1:
        # Its first frame stands for that of the clip, and its last ends when the clip's does.
        one_frame = state.positions[:, 0, :1, 1:]
        bounds[:, 0] = np.maximum(bounds[:, 0] - (time - 1) * one_frame, 0)
    bounds[:, 1:] *= space
    tokens = patchify_video(condition.latents)
    return _append(
        state, tokens, bounds, condition.strength, condition.attention, what="reference video"
    )


def _mask(state: State, condition: Mask, grid: Grid) -> State:
    _check_strength(condition.strength, what="mask")
    batch, size = state.tokens.shape[0], _size(condition.latents)
    if size != grid.size or condition.mask.shape != (batch, *size):
        raise UserError(
            f"mask: it has the shape {condition.mask.shape}, its latents {size}; this stage has "
            f"{(batch, *grid.size)}"
        )
    _check_weights(condition.mask, what="mask")
    tokens = patchify_video(condition.latents)
    _check_tokens(state, tokens, what="mask")
    tokens = _padded(tokens, state)
    given = np.zeros(state.denoise_mask.shape, np.float32)
    given[:, : state.num_tokens] = condition.mask.reshape(batch, -1)
    weight = mx.array(given)[..., None]
    return state._replace(
        clean=state.clean * (1 - weight) + tokens * weight,
        denoise_mask=state.denoise_mask * (1 - given) + np.float32(1 - condition.strength) * given,
    )


def _padded(tokens: mx.array, state: State) -> mx.array:
    """Tokens of the clip itself, and zeros for those that conditions have appended."""
    return mx.pad(tokens, [(0, 0), (0, state.tokens.shape[1] - state.num_tokens), (0, 0)])


def _regenerate(state: State, region: TemporalRegion) -> State:
    if region.end <= region.start:
        raise UserError(
            f"time region {region.start:g} to {region.end:g} s: it ends before it starts"
        )
    start, end = np.moveaxis(state.positions[:, 0, : state.num_tokens], -1, 0)
    mask = state.denoise_mask.copy()
    mask[:, : state.num_tokens] = (end > region.start) & (start < region.end)
    return state._replace(denoise_mask=mask)


def _write(state: State, tokens: mx.array, start: int, strength: float, *, what: str) -> State:
    """Put tokens (B, M, C) over the clip's own from ``start`` on."""
    _check_tokens(state, tokens, what=what)
    _check_strength(strength, what=what)
    stop = start + tokens.shape[1]
    if not 0 <= start <= stop <= state.num_tokens:
        raise UserError(
            f"{what}: {tokens.shape[1]} from there do not fit, the clip has {state.num_tokens}"
        )
    clean, mask = mx.array(state.clean), state.denoise_mask.copy()
    clean[:, start:stop] = tokens.astype(mx.float32)
    mask[:, start:stop] = 1 - strength
    return state._replace(clean=clean, denoise_mask=mask)


def _append(
    state: State,
    tokens: mx.array,
    positions: np.ndarray,
    strength: float,
    attention: Attention,
    *,
    what: str,
) -> State:
    """Put tokens (B, M, C) at positions (B, axes, M, 2) behind all that are there."""
    _check_tokens(state, tokens, what=what)
    _check_strength(strength, what=what)
    tokens = tokens.astype(mx.float32)
    batch, num_new, _ = tokens.shape
    there = state.positions
    positions = np.broadcast_to(positions, (there.shape[0], *positions.shape[1:]))
    mask = np.full((batch, num_new), 1 - strength, np.float32)
    return state._replace(
        tokens=mx.concatenate([state.tokens, mx.zeros_like(tokens)], axis=1),
        clean=mx.concatenate([state.clean, tokens], axis=1),
        denoise_mask=np.concatenate([state.denoise_mask, mask], axis=1),
        positions=np.concatenate([there, positions.astype(np.float32)], axis=2),
        attention_mask=_attention_mask(state, num_new, attention, what=what),
    )


def _attention_mask(
    state: State, num_new: int, attention: Attention, *, what: str
) -> np.ndarray | None:
    """The mask (B, T + M, T + M): new tokens and the clip see each other by ``attention``.

    Once there is a mask, tokens of one condition do not see those of a later one.
    """
    old = state.attention_mask
    if attention is None and old is None:
        return None
    batch, num_old = state.denoise_mask.shape
    weights = np.asarray(1.0 if attention is None else attention, np.float32)
    if weights.ndim and weights.shape != (batch, num_new):
        raise UserError(f"{what}: {weights.shape} attention weights for {(batch, num_new)} tokens")
    _check_weights(weights, what=f"{what}, attention")
    weights = np.broadcast_to(weights, (batch, num_new))
    mask = np.zeros((batch, num_old + num_new, num_old + num_new), np.float32)
    mask[:, :num_old, :num_old] = 1 if old is None else old
    mask[:, num_old:, num_old:] = 1
    mask[:, : state.num_tokens, num_old:] = weights[:, None, :]
    mask[:, num_old:, : state.num_tokens] = weights[:, :, None]
    return mask


def _size(latents: mx.array) -> tuple[int, int, int]:
    frames, rows, columns = latents.shape[2:]
    return frames, rows, columns


def _check_size(latents: mx.array, size: tuple[int, ...], *, what: str) -> None:
    if latents.shape[3:] != size:
        found = "x".join(str(n) for n in latents.shape[3:])
        raise UserError(
            f"{what}: it has {found} latent rows and columns, this stage needs {size[0]}x{size[1]}"
        )


def _check_tokens(state: State, tokens: mx.array, *, what: str) -> None:
    batch, _, channels = state.tokens.shape
    if (tokens.shape[0], tokens.shape[2]) != (batch, channels):
        raise UserError(
            f"{what}: batch {tokens.shape[0]} with {tokens.shape[2]} channels, this model and run "
            f"have {batch} with {channels}"
        )


def _check_strength(strength: float, *, what: str) -> None:
    if not 0 <= strength <= 1:
        raise UserError(f"{what}: strength {strength:g} is not in 0 to 1")


def _check_weights(weights: np.ndarray, *, what: str) -> None:
    if not ((weights >= 0) & (weights <= 1)).all():
        raise UserError(f"{what}: weights {weights.min():g} to {weights.max():g} are not in 0 to 1")
