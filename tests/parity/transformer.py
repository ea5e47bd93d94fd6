"""Golden components of the transformer."""

import mlx.core as mx
import numpy as np

from ltx_models.audio_vae import AudioVAEConfig
from ltx_models.flow import denoised
from ltx_models.transformer import load_transformer
from ltx_models.transformer.config import TransformerConfig
from ltx_models.transformer.model import Modality, Perturbation, Transformer, rope_tables
from ltx_models.transformer.patchify import (
    audio_positions,
    patchify_audio,
    patchify_video,
    unpatchify_audio,
    unpatchify_video,
    video_positions,
)
from ltx_models.transformer.timestep import distinct
from ltx_models.video_vae import VideoVAEConfig
from tests.parity.case import Case
from tests.parity.text import connector_rope

SKIPS = {
    "SKIP_VIDEO_SELF_ATTN": "video_self_attention",
    "SKIP_AUDIO_SELF_ATTN": "audio_self_attention",
    "SKIP_A2V_CROSS_ATTN": "audio_to_video",
    "SKIP_V2A_CROSS_ATTN": "video_to_audio",
}
STREAMS = ("video", "audio")


def stream_inputs(case: Case, stream: str) -> dict[str, mx.array]:
    at = f"{stream}."
    return {k.removeprefix(at): v for k, v in case.inputs.items() if k.startswith(at)}


def modality(model: Transformer, case: Case, stream: str) -> Modality | None:
    inputs = stream_inputs(case, stream)
    if not inputs:
        return None
    prepared = model.prepare(
        stream,
        positions=np.array(inputs["positions"]),
        context=inputs["context"],
        context_mask=inputs.get("context_mask"),
        attention_mask=inputs.get("attention_mask"),
    )
    timesteps = distinct(np.array(inputs["timesteps"]))
    return Modality(inputs["latent"], inputs["sigma"], timesteps, prepared)


def transformer(case: Case) -> dict[str, mx.array]:
    present = tuple(stream for stream in STREAMS if stream_inputs(case, stream))
    model = load_transformer(case.checkpoint, dtype=mx.float32, streams=present)
    return run(model, case)


def run(model: Transformer, case: Case) -> dict[str, mx.array]:
    inputs = {stream: modality(model, case, stream) for stream in STREAMS}
    velocities = model(
        inputs["video"],
        inputs["audio"],
        perturbations=[
            [Perturbation(SKIPS[p["type"]], p["blocks"]) for p in sample]
            for sample in case.params.get("perturbations") or ()
        ],
        enabled=[s for s in STREAMS if case.params.get(f"{s}_enabled", True)],
    )
    found = {}
    for stream, velocity in zip(STREAMS, velocities, strict=True):
        given = inputs[stream]
        if given is not None:
            sigma = given.timesteps.per_token()[..., None]
            found[f"{stream}_velocity"] = velocity
            found[f"{stream}_x0"] = denoised(given.latents, velocity, sigma)
    return found


def rope(case: Case) -> dict[str, mx.array]:
    if case.params.get("tables") == ["connector"]:
        return connector_rope(case)
    config = case.checkpoint.section("transformer", TransformerConfig)
    found = {}
    for stream in STREAMS:
        positions = np.array(case.inputs[f"{stream}.positions"])
        for name, table in zip(
            (stream, f"cross_{stream}"), rope_tables(config, stream, positions), strict=True
        ):
            found[f"{name}.cos"], found[f"{name}.sin"] = table
    return found


def adaln(case: Case) -> dict[str, mx.array]:
    model = load_transformer(case.checkpoint, dtype=mx.float32)
    found = {}
    for name in {key.rpartition(".")[0] for key in case.expected}:
        scale = (
            model.config.av_ca_timestep_scale_multiplier
            if "gate" in name
            else model.config.timestep_scale_multiplier
        )
        rows, embedded = model[name](case.inputs["timesteps"] * scale)
        found[f"{name}.values"], found[f"{name}.embedded"] = rows.flatten(1), embedded
    return found


def caption_projection(case: Case) -> dict[str, mx.array]:
    model = load_transformer(case.checkpoint, dtype=mx.float32)
    context = case.inputs["context"]
    return {
        "video": model.caption_projection(context),
        "audio": model.audio_caption_projection(context),
    }


def patchify(case: Case) -> dict[str, mx.array]:
    video, audio = case.inputs["video"], case.inputs["audio"]
    video_tokens, audio_tokens = patchify_video(video), patchify_audio(audio)
    video_scale = case.checkpoint.section("vae", VideoVAEConfig).scale
    audio_scale = case.checkpoint.section("audio_vae", AudioVAEConfig).scale
    batch = video.shape[0]
    where = {
        "video": video_positions(video.shape[2:], fps=case.params["fps"], scale=video_scale),
        "audio": audio_positions(audio.shape[2], scale=audio_scale),
    }
    return {
        "video_tokens": video_tokens,
        "audio_tokens": audio_tokens,
        "video_back": unpatchify_video(video_tokens, video.shape[2:]),
        "audio_back": unpatchify_audio(audio_tokens, audio.shape[1]),
        **{f"{k}_positions": np.repeat(v, batch, axis=0) for k, v in where.items()},
    }


COMPONENTS = {
    "transformer": transformer,
    "rope": rope,
    "adaln": adaln,
    "caption_projection": caption_projection,
    "patchify": patchify,
}
