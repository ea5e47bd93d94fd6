"""One stage of sampling: streams, the model under guidance, and the sampler's loop.

What does not change from step to step (context, masks, RoPE tables) is made once. Letters: B batch,
T tokens, C channels, S context tokens.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import mlx.core as mx

from ltx_infer.pipeline.recipes import Stage
from ltx_infer.sampling.guidance import (
    Passes,
    Predict,
    guided,
    in_batches,
    needed_passes,
    stack,
    unstack,
)
from ltx_infer.sampling.res2s import levels, res_2s
from ltx_infer.sampling.samplers import euler
from ltx_infer.sampling.state import Noise, State, Tokens, add_noise, blender, noise_level
from ltx_models.flow import denoised
from ltx_models.transformer.block import StreamName, Streams
from ltx_models.transformer.model import BOTH, Modality, Prepared, Transformer
from ltx_models.transformer.timestep import Timesteps, distinct


class Context(NamedTuple):
    """What one stream is told: the prompt's context (B, S, width), and the negative prompt's."""

    positive: mx.array
    negative: mx.array | None = None


def sample(
    model: Transformer,
    states: Mapping[StreamName, State],
    contexts: Mapping[StreamName, Context],
    stage: Stage,
    *,
    noise: Noise,
    noise_scale: float = 1.0,
    max_batch_size: int = 1,
) -> Iterator[dict[StreamName, mx.array]]:
    """Yield the tokens of each stream after every step, evaluated; those of conditions included.

    ``noise`` is asked once a stream, video first, a frozen one too; then by the sampler.
    ``noise_scale`` is 1 from nothing, and the first sigma where a stage refines.
    """
    streams: Streams = tuple(name for name in BOTH if name in states)
    given = [states[name] for name in streams]
    batches = in_batches(needed_passes(stage.guidance), max_batch_size)
    blend = blender(given)
    start = tuple(add_noise(s, noise(s.tokens.shape), noise_scale) for s in given)
    steps_at = levels(stage.sigmas) if stage.sampler == "res_2s" else stage.sigmas
    denoise = guided(
        _predictor(model, states, streams, _prepare(model, states, contexts, batches)),
        stage.guidance,
        streams=streams,
        batches=batches,
        sigmas=steps_at,
        blend=blend,
    )
    if stage.sampler == "res_2s":
        steps = res_2s(denoise, start, stage.sigmas, noise=noise, blend=blend)
    else:
        steps = euler(denoise, start, stage.sigmas)
    for tokens in steps:
        mx.eval(tokens)
        yield dict(zip(streams, tokens, strict=True))


def _prepare(
    model: Transformer,
    states: Mapping[StreamName, State],
    contexts: Mapping[StreamName, Context],
    batches: Sequence[Passes],
) -> dict[Passes, dict[StreamName, Prepared]]:
    """Of each batch of passes, what the streams keep through all steps."""
    found: dict[Passes, dict[StreamName, Prepared]] = {passes: {} for passes in batches}
    for name, state in states.items():
        mask = state.attention_mask
        base = model.prepare(
            name,
            positions=state.positions,
            context=contexts[name].positive,
            attention_mask=None if mask is None else mx.array(mask),
        )
        negative = contexts[name].negative
        other = None if negative is None else model.project_context(name, negative)
        for passes in batches:
            parts = [_of_pass(base.context, other, name in p.negative) for p in passes]
            found[passes][name] = base._replace(context=mx.concatenate(parts))
    return found


def _of_pass(positive: mx.array, negative: mx.array | None, is_negative: bool) -> mx.array:
    if not is_negative:
        return positive
    assert negative is not None, "a pass needs the negative prompt"
    return negative


def _predictor(
    model: Transformer,
    states: Mapping[StreamName, State],
    streams: Streams,
    prepared: Mapping[Passes, Mapping[StreamName, Prepared]],
) -> Predict:
    """The model as a function of noisy tokens: the clean ones that it sees in each pass."""
    masks = {name: distinct(state.denoise_mask) for name, state in states.items()}

    def predict(x: Tokens, sigma: float, passes: Passes, enabled: Streams) -> list[Tokens]:
        inputs: dict[StreamName, Modality] = {}
        for name, tokens in zip(streams, x, strict=True):
            level = noise_level(states[name], sigma)
            latents = stack(tokens, len(passes))
            inputs[name] = Modality(
                latents=latents,
                sigma=mx.full(latents.shape[:1], level),
                timesteps=Timesteps(masks[name].values * level, masks[name].which),
                prepared=prepared[passes][name],
            )
        velocities = model(
            inputs.get("video"),
            inputs.get("audio"),
            perturbations=[p.perturbations for p in passes for _ in range(len(x[0]))],
            enabled=enabled,
        )
        answers = dict(zip(BOTH, velocities, strict=True))
        return unstack(tuple(_clean(inputs[s], answers[s]) for s in streams), len(passes))

    return predict


def _clean(modality: Modality, velocity: mx.array | None) -> mx.array:
    assert velocity is not None  # the model answers for every stream it is given
    return denoised(modality.latents, velocity, modality.timesteps.per_token()[..., None])
