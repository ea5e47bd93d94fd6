"""Golden components of training."""

from collections.abc import Mapping
from typing import Any

import mlx.core as mx
import numpy as np

from ltx_models.lora.adapters import add_trainable
from ltx_models.lora.linear import lora_layers
from ltx_models.transformer import load_transformer
from ltx_models.transformer.block import StreamName
from ltx_models.transformer.model import Transformer
from ltx_models.transformer.patchify import (
    AudioScale,
    VideoScale,
    audio_positions,
    patchify_audio,
    patchify_video,
    video_positions,
)
from ltx_train.data.conditions import (
    Given,
    Reference,
    Size,
    Source,
    draw_batch,
    first_units,
    last_units,
    reference_positions,
    region,
)
from ltx_train.data.draws import Draws
from ltx_train.loss import Batch, input_maker
from ltx_train.optimizer import Tensors, clip_factor, global_norm
from ltx_train.schedule import learning_rates
from ltx_train.step import MicroBatch, gradients, make_step, new_state
from ltx_train.timesteps import shifted_logit_normal, uniform
from tests.parity.case import Case

# What the reference takes without a checkpoint.
VIDEO_SCALE, AUDIO_SCALE = VideoScale(8, 32), AudioScale(16000, 160, 4)
Found = dict[str, mx.array | np.ndarray]


def timestep_sampler(case: Case) -> dict[str, np.ndarray]:
    params = case.params
    draws = [np.array(case.inputs[f"noise.{i:03}"]) for i in range(len(params["noise_kinds"]))]
    if params["sampler"] == "uniform":
        return {"sigmas": uniform(*draws, **params["kwargs"])}
    sigmas = shifted_logit_normal(*draws, num_tokens=params["seq_length"], **params["kwargs"])
    return {"sigmas": sigmas}


def lr_schedule(case: Case) -> dict[str, np.ndarray]:
    params = case.params
    rates = learning_rates(
        params["type"], steps=params["steps"], rate=params["lr"], params=params["params"]
    )
    return {"lr": rates}


def training(case: Case) -> Found:
    name, strategy = case.params["strategy"]["name"], strategy_of(case)
    sources = {stream: source(case, stream, config) for stream, config in strategy.items()}
    batch = draw_batch(sources, recorded(case), shared_sigma=name != "flexible")
    model = adapted(case, batch)
    inputs = MicroBatch(input_maker(model)(batch))
    found = entered(batch, inputs)

    state = new_state(model)
    max_norm = case.params["optimizer"]["max_grad_norm"]
    losses, _, grads = gradients(model)(state.parameters, inputs)
    found["loss"] = sum(losses.values())
    # After clipping, whatever the folder's README says.
    factor = clip_factor(global_norm(grads), max_norm)
    found |= by_module("grad", {name: factor * grad for name, grad in grads.items()})

    step, told = make_step(model, max_grad_norm=max_norm), []
    for _ in range(case.params["optimizer"]["steps"]):
        state, arrays = step(state, [inputs], case.params["optimizer"]["lr"])
        told.append(arrays)
    found["losses"] = mx.stack([each.loss for each in told])
    found["grad_norms"] = mx.stack([each.grad_norm for each in told])
    return found | by_module("final", state.parameters)


def strategy_of(case: Case) -> dict[StreamName, dict[str, Any]]:
    """The streams of a strategy; those of the two legacy ones as the flexible one has them."""
    strategy, config = case.params["strategy"], case.params["strategy"]["config"]
    if strategy["name"] == "flexible":
        return {stream: config[stream] for stream in ("video", "audio") if config.get(stream)}
    conditions = []
    if (probability := config["first_frame_conditioning_p"]) > 0:
        conditions.append({"type": "first_frame", "probability": probability})
    if strategy["name"] == "video_to_video":
        conditions.append({"type": "reference", "probability": 1.0})
    streams = {"video": {"is_generated": True, "conditions": conditions}}
    if config.get("with_audio"):
        streams["audio"] = {"is_generated": True}
    return streams


def recorded(case: Case) -> Draws:
    """The reference's draws, in its order within each kind."""
    numbered = enumerate(case.params["noise_kinds"])
    draws = [(kind, case.inputs[f"noise.{index:03}"]) for index, kind in numbered]
    normals = iter([draw for kind, draw in draws if kind == "normal"])
    uniforms = [np.array(draw).reshape(-1) for kind, draw in draws if kind == "uniform"]
    if case.params["strategy"]["name"] == "video_to_video":
        uniforms.append(np.zeros(1))  # its reference is always there, without a draw
    sigmas, choices = iter(np.array(case.inputs["sigmas"])), iter(uniforms)
    return Draws(lambda *_: next(sigmas), lambda _: next(normals), lambda _: next(choices))


def source(case: Case, stream: StreamName, config: Mapping[str, Any]) -> Source:
    latents = case.inputs[f"{stream}_latents"]
    count, size = latents.shape[0], (latents.shape[2], 1, 1)
    conditions = config.get("conditions", [])
    references: list[Reference] = []
    if stream == "video":
        size = latents.shape[2:]
        x_0 = patchify_video(latents)
        positions = video_positions(size, fps=case.params["fps"], scale=VIDEO_SCALE)
        references = [reference(case, size, c) for c in conditions if c["type"] == "reference"]
    else:
        x_0, positions = patchify_audio(latents), audio_positions(size[0], scale=AUDIO_SCALE)
    return Source(
        x_0=x_0,
        positions=positions.repeat(count, axis=0),
        context=case.inputs[f"context_{stream}"],
        given=[given(size, c) for c in conditions if c["type"] != "reference"],
        references=references,
        is_generated=config["is_generated"],
    )


def given(size: Size, condition: Mapping[str, Any]) -> Given:
    match condition["type"]:
        case "first_frame":
            tokens = first_units(size, 1)
        case "prefix":
            tokens = first_units(size, condition["temporal_boundary"])
        case "suffix":
            tokens = last_units(size, condition["temporal_boundary"])
        case "spatial_crop":
            tokens = region(size, condition["spatial_region"], scale=VIDEO_SCALE)
        case other:
            raise ValueError(other)
    return Given(tokens, condition["probability"])


def reference(case: Case, size: Size, condition: Mapping[str, Any]) -> Reference:
    latents, fps = case.inputs["ref_latents"], case.params["fps"]
    factors = size[1] // latents.shape[3], 1
    positions = reference_positions(
        latents.shape[2:], fps=fps, scale=VIDEO_SCALE, factors=factors, target_fps=fps
    )
    positions = positions.repeat(len(latents), axis=0)
    return Reference(patchify_video(latents), positions, condition["probability"])


def adapted(case: Case, batch: Batch) -> Transformer:
    lora, streams = case.params["lora"], tuple(batch)
    model = load_transformer(case.checkpoint, dtype=mx.float32, streams=streams)
    targets = lora["target_modules"]
    add_trainable(model, rank=lora["rank"], alpha=lora["alpha"], target_modules=targets)
    for path, layer in lora_layers(model).items():
        for part in ("lora_A", "lora_B"):
            layer[part] = case.inputs[f"lora.{path}.{part}.weight"]
    return model


def entered(batch: Batch, given: MicroBatch) -> Found:
    """What the model is given, and what is asked of it."""
    found: Found = {}
    for name, stream in given.inputs.items():
        shape = stream.tokens.shape[:2]
        found |= {
            f"{name}.latent": stream.tokens,
            f"{name}.timesteps": mx.broadcast_to(stream.timesteps.per_token(), shape),
            f"{name}.positions": batch[name].positions,
            f"{name}.sigma": stream.sigma,
        }
        if stream.velocity is not None:
            found[f"{name}.targets"] = stream.velocity
            found[f"{name}.loss_mask"] = batch[name].denoise_mask.astype(np.uint8)
    return found


def by_module(kind: str, tensors: Tensors) -> Found:
    return {f"{kind}.{name}.weight": x for name, x in tensors.items()}


COMPONENTS = {
    "timestep_sampler": timestep_sampler,
    "lr_schedule": lr_schedule,
    "training": training,
}
