"""Guidance: several predictions of one step, and the one that is made of them (spec/model.md 8.4).

Which passes the model makes is data. They may share calls of the model, stacked on the batch
axis, or follow each other. Letters: B batch, T tokens, C channels.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

import mlx.core as mx

from ltx_infer.sampling.samplers import Denoise
from ltx_infer.sampling.state import Blend, Tokens
from ltx_models.errors import UserError
from ltx_models.transformer.block import StreamName, Streams
from ltx_models.transformer.model import Perturbation, Skippable

PassName = Literal["cond", "uncond", "perturbed", "isolated"]
_SELF_ATTENTION: Mapping[StreamName, Skippable] = {
    "video": "video_self_attention",
    "audio": "audio_self_attention",
}
_BETWEEN_STREAMS = (Perturbation("audio_to_video"), Perturbation("video_to_audio"))


class Pass(NamedTuple):
    """One prediction of a step: what the streams read, and what the model leaves out."""

    name: PassName
    negative: Streams = ()  # these streams read the negative prompt, the others the positive one
    perturbations: tuple[Perturbation, ...] = ()


Passes = tuple[Pass, ...]
# Clean tokens of every stream, a result for each pass, at a sigma. Streams that are not among the
# last argument are not computed, and nobody looks at what comes back for them.
Predict = Callable[[Tokens, float, Passes, Streams], Sequence[Tokens]]


@dataclass(frozen=True)
class Apg:
    """Adaptive projected guidance: of cond - uncond, weigh what is parallel to cond by ``eta``.

    The difference is scaled down to a norm of ``norm_threshold`` (0: any norm). With ``momentum``
    it is first added to that share of the sum so far.
    """

    eta: float = 1.0
    norm_threshold: float = 0.0
    momentum: float = 0.0


@dataclass(frozen=True)
class Guidance:
    """How one stream is guided; the defaults do nothing."""

    cfg: float = 1.0  # away from the negative prompt; 1 is none
    stg: float = 0.0  # away from the prediction without self-attention in stg_blocks; 0 is none
    modality: float = 1.0  # away from the prediction without the other stream; 1 is none
    rescale: float = 0.0  # back to the deviation of cond; 1 is all the way
    stg_blocks: tuple[int, ...] = ()
    skip_step: int = 0  # steps that reuse a prediction, after each that makes one
    text: Literal["cfg", "cfg_star"] | Apg = "cfg"  # what is made of cond - uncond

    def skips(self, step: int) -> bool:
        """Whether step number ``step``, from 0, reuses the prediction before it."""
        return step % (self.skip_step + 1) != 0


GuidedStreams = Mapping[StreamName, Guidance]

_NONE = Guidance()
_DEV_VIDEO = Guidance(cfg=3.0, stg=1.0, modality=3.0, rescale=0.7)
_DEV_AUDIO = replace(_DEV_VIDEO, cfg=7.0)
LTX_2: GuidedStreams = {
    "video": replace(_DEV_VIDEO, stg_blocks=(29,)),
    "audio": replace(_DEV_AUDIO, stg_blocks=(29,)),
}
LTX_2_3: GuidedStreams = {
    "video": replace(_DEV_VIDEO, stg_blocks=(28,)),
    "audio": replace(_DEV_AUDIO, stg_blocks=(28,)),
}
HQ: GuidedStreams = {
    "video": replace(_DEV_VIDEO, stg=0.0, rescale=0.45),
    "audio": replace(_DEV_AUDIO, stg=0.0, rescale=1.0),
}
UNGUIDED: GuidedStreams = {}  # distilled weights, and every second stage
_RELEASED_LAYERS = 48


def default_guidance(version: tuple[int, ...], *, num_layers: int) -> GuidedStreams:
    """The released dev weights' own, its STG blocks moved to a model of ``num_layers`` blocks."""
    released = LTX_2 if version < (2, 3) else LTX_2_3
    return {
        name: replace(guidance, stg_blocks=scaled_blocks(guidance.stg_blocks, num_layers))
        for name, guidance in released.items()
    }


def scaled_blocks(blocks: Sequence[int], num_layers: int) -> tuple[int, ...]:
    """Blocks of the released depth, at the same share of the depth before the last block."""
    last = _RELEASED_LAYERS - 1
    return tuple(
        num_layers - 1 - round((last - block) * num_layers / _RELEASED_LAYERS) for block in blocks
    )


def check_blocks(guidance: GuidedStreams, *, num_layers: int) -> None:
    """Raise UserError for an STG block that the model does not have."""
    for block in (block for given in guidance.values() for block in given.stg_blocks):
        if not 0 <= block < num_layers:
            raise UserError(f"STG block {block}: this model has blocks 0 to {num_layers - 1}")


def needed_passes(guidance: GuidedStreams) -> Passes:
    """What a step predicts, in the order of the batch: cond, uncond, perturbed, isolated.

    A stream that ``guidance`` lacks reads its positive prompt in every pass.
    """
    given = guidance.values()
    passes = [Pass("cond")]
    if any(g.cfg != 1 for g in given):
        passes.append(Pass("uncond", negative=tuple(guidance)))
    skipped = tuple(
        Perturbation(_SELF_ATTENTION[name], g.stg_blocks) for name, g in guidance.items() if g.stg
    )
    if skipped:
        passes.append(Pass("perturbed", perturbations=skipped))
    if any(g.modality != 1 for g in given):
        passes.append(Pass("isolated", perturbations=_BETWEEN_STREAMS))
    return tuple(passes)


def in_batches(passes: Passes, max_batch_size: int) -> tuple[Passes, ...]:
    """The passes of each call of the model, when a call may make ``max_batch_size`` at once."""
    starts = range(0, len(passes), max_batch_size)
    return tuple(passes[start : start + max_batch_size] for start in starts)


def stack(x: mx.array, count: int) -> mx.array:
    """(B, ...) once for every pass: (count * B, ...), pass after pass."""
    return mx.concatenate([x] * count) if count > 1 else x


def unstack(tokens: Tokens, count: int) -> list[Tokens]:
    """The tokens of each pass, from every stream's (count * B, T, C)."""
    return list(zip(*(mx.split(x, count) for x in tokens), strict=True))


def guided(
    predict: Predict,
    guidance: GuidedStreams,
    *,
    streams: Streams,
    batches: Sequence[Passes],
    sigmas: Sequence[float],
    blend: Blend,
) -> Denoise:
    """The model under guidance, as samplers call it; for one run through ``sigmas``.

    ``batches`` are ``in_batches(needed_passes(guidance), ...)``, ``sigmas`` the levels at which
    steps begin (for res_2s its ``levels``): their numbers decide which are skipped. A level
    between two steps never is. A stream that skips keeps its last prediction and is not computed;
    when all do, the model is not called.
    """
    number = {sigma: step for step, sigma in enumerate(sigmas)}
    last: dict[StreamName, mx.array] = {}
    averages: dict[StreamName, mx.array] = {}

    def denoise(x: Tokens, sigma: float) -> Tokens:
        step = number.get(sigma, 0)
        enabled: Streams = tuple(
            name for name in streams if not guidance.get(name, _NONE).skips(step)
        )
        if enabled:
            found = _predictions(predict, x, sigma, batches, enabled)
            for index, name in enumerate(streams):
                if name in enabled:
                    own: dict[PassName, mx.array] = {k: x_0[index] for k, x_0 in found.items()}
                    last[name] = _combined(name, own, guidance.get(name, _NONE), averages)
        return blend(tuple(last[name] for name in streams))

    return denoise


def _predictions(
    predict: Predict, x: Tokens, sigma: float, batches: Sequence[Passes], enabled: Streams
) -> dict[PassName, Tokens]:
    found: dict[PassName, Tokens] = {}
    for passes in batches:
        answers = predict(x, sigma, passes, enabled)
        if len(batches) > 1:
            mx.eval(answers)  # or the graphs of all batches would be in memory together
        found.update({p.name: answer for p, answer in zip(passes, answers, strict=True)})
    return found


def _combined(
    name: StreamName,
    found: Mapping[PassName, mx.array],
    guidance: Guidance,
    averages: dict[StreamName, mx.array],
) -> mx.array:
    """``combine`` of a stream's predictions, with the momentum that APG may keep for it."""
    cond, uncond = found["cond"], found.get("uncond")
    average = None
    if isinstance(guidance.text, Apg) and guidance.text.momentum and uncond is not None:
        average = accumulate(cond - uncond, averages.get(name), guidance.text.momentum)
        averages[name] = average
    return combine(
        cond,
        uncond=uncond,
        perturbed=found.get("perturbed"),
        isolated=found.get("isolated"),
        guidance=guidance,
        average=average,
    )


def combine(
    cond: mx.array,
    *,
    uncond: mx.array | None = None,
    perturbed: mx.array | None = None,
    isolated: mx.array | None = None,
    guidance: Guidance,
    average: mx.array | None = None,
) -> mx.array:
    """The guided clean tokens (B, T, C) of one stream, in float32, from those of its passes.

    A pass whose scale is off is not looked at. ``average`` takes the place of cond - uncond where
    APG has momentum.
    """
    cond = cond.astype(mx.float32)
    x_0 = cond
    if guidance.cfg != 1:
        assert uncond is not None
        x_0 = x_0 + (guidance.cfg - 1) * text_direction(cond, uncond, guidance.text, average)
    for scale, other in ((guidance.stg, perturbed), (guidance.modality - 1, isolated)):
        if scale:
            assert other is not None
            x_0 = x_0 + scale * (cond - other)
    if guidance.rescale:
        # One number for the whole tensor, so that channels keep their proportions.
        to_cond = mx.std(cond, ddof=1) / mx.std(x_0, ddof=1)
        x_0 = x_0 * (guidance.rescale * to_cond + (1 - guidance.rescale))
    return x_0


def text_direction(
    cond: mx.array,
    uncond: mx.array,
    text: Literal["cfg", "cfg_star"] | Apg,
    average: mx.array | None = None,
) -> mx.array:
    """Where the prompt leads, (B, T, C): what CFG multiplies by its scale less 1.

    Plain, from uncond shortened to its share of cond (CFG*), or projected (APG).
    """
    if text == "cfg_star":
        return cond - _share(cond, uncond) * uncond
    difference = cond - uncond if average is None else average
    return projected(difference, cond, text) if isinstance(text, Apg) else difference


def projected(difference: mx.array, cond: mx.array, apg: Apg) -> mx.array:
    """APG's form of cond - uncond; norms and projections are each sample's own."""
    if apg.norm_threshold > 0:
        norm = mx.linalg.norm(difference, axis=[-2, -1], keepdims=True)
        difference = difference * mx.minimum(1, apg.norm_threshold / norm)
    parallel = _share(difference, cond) * cond
    return apg.eta * parallel + (difference - parallel)


def accumulate(difference: mx.array, average: mx.array | None, momentum: float) -> mx.array:
    """The running sum that APG's momentum keeps; ``average`` is the one before, if any."""
    return difference if average is None else momentum * average + difference


def _share(x: mx.array, onto: mx.array) -> mx.array:
    """How much of ``onto`` is in ``x``: a factor (B, 1, 1)."""
    dot = (x * onto).sum((-2, -1), keepdims=True)
    return dot / (onto.square().sum((-2, -1), keepdims=True) + 1e-8)
