"""Golden component of conditions."""

from typing import Any

import mlx.core as mx
import numpy as np

from ltx_infer.sampling.conditions import (
    AudioCondition,
    Grid,
    Keyframe,
    LatentIndex,
    Mask,
    Reference,
    ReferenceAudio,
    TemporalRegion,
    VideoCondition,
    condition_audio,
    condition_video,
)
from ltx_infer.sampling.state import State, add_noise, free_state
from ltx_models.transformer.patchify import (
    AudioScale,
    VideoScale,
    audio_positions,
    patchify_audio,
    patchify_video,
    video_positions,
)
from tests.parity.case import Case

# What the reference takes without a checkpoint.
VIDEO_SCALE, AUDIO_SCALE = VideoScale(8, 32), AudioScale(16000, 160, 4)


def conditioning(case: Case) -> dict[str, mx.array | np.ndarray]:
    state = conditioned(case)
    tokens = state.tokens
    if "noise.000" in case.inputs:
        tokens = add_noise(state, case.inputs["noise.000"], case.params["noise_scale"])
    positions = state.positions  # one row of them where every clip of the batch has the same
    found: dict[str, mx.array | np.ndarray] = {
        "latent": tokens,
        "clean_latent": state.clean,
        "denoise_mask": state.denoise_mask[..., None],
        "positions": np.broadcast_to(positions, (tokens.shape[0], *positions.shape[1:])),
    }
    if state.attention_mask is not None:
        found["attention_mask"] = state.attention_mask
    if case.params["modality"] == "video":
        own = np.arange(positions.shape[2]) < state.num_tokens
        first = own & (found["positions"][:, 0, :, 0] == 0)
        found["keyframes_mask"] = first[..., None].astype(np.float32)
    return found


def conditioned(case: Case) -> State:
    shape, items = case.params["shape"], case.params["items"]
    initial = case.inputs["initial"] if "initial" in case.inputs else mx.zeros(shape)
    if case.params["modality"] == "audio":
        positions = audio_positions(shape[2], scale=AUDIO_SCALE).repeat(shape[0], axis=0)
        state = free_state(patchify_audio(initial), positions)
        return condition_audio(state, [audio_condition(case, item) for item in items])
    grid = Grid((shape[2], shape[3], shape[4]), case.params["fps"], VIDEO_SCALE)
    positions = video_positions(grid.size, fps=grid.fps, scale=grid.scale).repeat(shape[0], axis=0)
    state = free_state(patchify_video(initial), positions)
    return condition_video(state, [video_condition(case, item) for item in items], grid)


def video_condition(case: Case, item: dict[str, Any]) -> VideoCondition:
    get, attention = case.inputs.get, attention_of(case, item)
    latents, strength = get(item.get("latent", "")), item.get("strength", 1.0)
    match item["type"]:
        case "latent_index":
            return LatentIndex(latents, strength, item["latent_idx"])
        case "keyframe":
            return Keyframe(
                latents, item["frame_idx"], strength, item.get("num_pixel_frames", 1), attention
            )
        case "reference":
            factors = item.get("downscale_factor", 1), item.get("temporal_scale_factor", 1)
            return Reference(latents, strength, *factors, attention)
        case "mask":
            return Mask(latents, np.array(get(item["mask"])), strength)
        case "temporal_region":
            return TemporalRegion(item["start_time"], item["end_time"])
    raise ValueError(item)


def audio_condition(case: Case, item: dict[str, Any]) -> AudioCondition:
    if item["type"] == "temporal_region":
        return TemporalRegion(item["start_time"], item["end_time"])
    assert item["type"] == "reference_audio"
    return ReferenceAudio(
        case.inputs[item["tokens"]],
        np.array(case.inputs[item["positions"]]),
        item["strength"],
        attention_of(case, item),
    )


def attention_of(case: Case, item: dict[str, Any]) -> float | np.ndarray | None:
    attention = item.get("attention_strength")
    return np.array(case.inputs[attention]) if isinstance(attention, str) else attention


COMPONENTS = {"conditioning": conditioning}
