"""Golden components of the video VAE and of the latent upsamplers."""

import mlx.core as mx

from ltx_models.upsampler import load_upsampler, upsample
from ltx_models.video_vae import load_video_decoder, load_video_encoder, load_video_statistics
from ltx_models.video_vae.tiling import (
    UNTILED,
    TileSize,
    Tiling,
    stream_frames,
    tiled_decode,
    tiled_encode,
)
from tests.parity.case import Case


def vae_encode(case: Case) -> dict[str, mx.array]:
    encoder = load_video_encoder(case.checkpoint, dtype=mx.float32)
    video = case.inputs["video_u8"].astype(mx.float32) / 127.5 - 1
    tiling = _tiling(case)
    return {"latent": tiled_encode(encoder, video, tiling) if tiling else encoder(video)}


def vae_decode(case: Case) -> dict[str, mx.array]:
    decoder = load_video_decoder(case.checkpoint, dtype=mx.float32)
    latents = case.inputs["latent"]
    tiling = _tiling(case)
    if case.params.get("decode_video"):
        frames = mx.concatenate(list(stream_frames(decoder, latents, tiling or UNTILED)))
        return {"pixels": _subsample(frames, case, first_axis=0)}
    plain = _subsample(decoder(latents), case, first_axis=2)
    if not tiling:
        return {"pixels": plain}
    tiled = mx.concatenate(list(tiled_decode(decoder, latents, tiling)), axis=2)
    return {"pixels": _subsample(tiled, case, first_axis=2), "untiled": plain}


def upsampler(case: Case) -> dict[str, mx.array]:
    net = load_upsampler(case.folder / case.params["upsampler"], dtype=mx.float32)
    statistics = load_video_statistics(case.checkpoint, dtype=mx.float32)
    latents = case.inputs["latent"]
    return {"latent": upsample(net, latents, statistics=statistics), "raw": net(latents)}


def _tiling(case: Case) -> Tiling | None:
    sizes = case.params.get("tiling")
    return Tiling(**{axis: TileSize(*size) for axis, size in sizes.items()}) if sizes else None


def _subsample(x: mx.array, case: Case, *, first_axis: int) -> mx.array:
    """Every s-th element of three successive axes."""
    strides = case.params.get("out_stride", [1, 1, 1])
    return x[(slice(None),) * first_axis + tuple(slice(None, None, step) for step in strides)]


COMPONENTS = {"vae_encode": vae_encode, "vae_decode": vae_decode, "upsampler": upsampler}
