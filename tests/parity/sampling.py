"""Golden components of guidance and of the samplers."""

from collections.abc import Callable, Iterator
from itertools import pairwise

import mlx.core as mx
import numpy as np

from ltx_infer.sampling.guidance import Apg, Guidance, accumulate, combine, text_direction
from ltx_infer.sampling.res2s import coefficients, res_2s, sde_step
from ltx_infer.sampling.samplers import ancestral_step, euler, euler_ancestral, euler_step
from ltx_infer.sampling.state import Noise, State, Tokens, blender
from tests.parity.case import Case


def guider(case: Case) -> dict[str, mx.array]:
    kind, kwargs = case.params["guider"], dict(case.params["kwargs"])
    if kind == "multimodal":
        return {"pred": multimodal(case, kwargs)}
    cond, uncond = case.inputs["cond"], case.inputs["uncond"]
    scale = kwargs.pop("scale")
    if kind == "stg":
        return {"delta": combine(cond, perturbed=uncond, guidance=Guidance(stg=scale)) - cond}
    if kind == "legacy_apg":
        kwargs = {"norm_threshold": 5.0} | kwargs  # what the reference takes where none is given
    text = Apg(**kwargs) if kind.endswith("apg") else {"cfg": "cfg", "cfg_star": "cfg_star"}[kind]
    if kind != "legacy_apg":
        return {"delta": (scale - 1) * text_direction(cond, uncond, text)}
    first = accumulate(cond - uncond, None, text.momentum)
    found = {"delta": scale * text_direction(cond, uncond, text, first)}
    if "cond2" in case.inputs:
        cond, uncond = case.inputs["cond2"], case.inputs["uncond2"]
        second = accumulate(cond - uncond, first, text.momentum)
        found["delta2"] = scale * text_direction(cond, uncond, text, second)
    return found


def multimodal(case: Case, kwargs: dict) -> mx.array:
    guidance = Guidance(
        cfg=kwargs.pop("cfg_scale", 1.0),
        stg=kwargs.pop("stg_scale", 0.0),
        modality=kwargs.pop("modality_scale", 1.0),
        rescale=kwargs.pop("rescale_scale", 0.0),
    )
    assert not kwargs.keys() - {"stg_blocks", "skip_step"}, kwargs  # these do not change the sum
    return combine(
        case.inputs["cond"],
        uncond=case.inputs.get("uncond_text"),
        perturbed=case.inputs.get("uncond_perturbed"),
        isolated=case.inputs.get("uncond_modality"),
        guidance=guidance,
    )


def step(case: Case) -> dict[str, mx.array | np.ndarray]:
    sample, x_0 = case.inputs["sample"], case.inputs["denoised"]
    sigmas = list(pairwise(case.inputs["sigmas"].tolist()))[case.params["step_index"]]
    kind, kwargs = case.params["stepper"], case.params["kwargs"]
    if kind == "euler":
        return {"sample": euler_step(sample, x_0, *sigmas)}
    noise = case.inputs.get("noise", mx.zeros(sample.shape))  # absent where eta is 0
    if kind == "euler_ancestral":
        return {"sample": ancestral_step(sample, x_0, noise, *sigmas, **kwargs)}
    if "sigma_pair" in case.inputs:
        sigmas = tuple(np.array(case.inputs["sigma_pair"]).astype(np.float64))
    state = [np.array(x).astype(np.float64) for x in (sample, x_0, noise)]
    return {"sample": {"res2s": sde_step}[kind](*state, *sigmas, **kwargs)}


def loop(case: Case) -> dict[str, mx.array]:
    names = [name for name in ("video", "audio") if f"{name}.latent" in case.inputs]
    states = [given(case, name) for name in names]
    blend = blender(states)

    def denoise(x: Tokens, sigma: float) -> Tokens:
        targets = [case.inputs[f"{name}.target"] for name in names]
        return blend(
            tuple(
                t * (0.6 - 0.3 * sigma) + 0.7 * mx.tanh(1.5 * a + sigma)
                for a, t in zip(x, targets, strict=True)
            )
        )

    start = tuple(state.tokens for state in states)
    sigmas = case.inputs["sigmas"].tolist()
    steps = sampler(case, blend, states)(denoise, start, sigmas)
    *_, tokens = steps
    return dict(zip(names, tokens, strict=True))


def sampler(case: Case, blend, states: list[State]) -> Callable[..., Iterator[Tokens]]:
    kind, kwargs = case.params["loop"], dict(case.params["kwargs"])
    noise = replayed(case)
    if kind == "euler":
        return euler
    if kind == "euler_ancestral":
        return lambda *args: euler_ancestral(*args, noise=noise, blend=blend, **kwargs)
    assert kind == "res2s"
    legacy = kwargs.pop("legacy_mode", True)
    masks = None if legacy else [state.denoise_mask for state in states]
    eta, bong = kwargs.pop("eta", 0.5), kwargs.pop("bongmath", True)
    assert not kwargs
    return lambda *args: res_2s(*args, noise=noise, blend=blend, masks=masks, eta=eta, bong=bong)


def given(case: Case, name: str) -> State:
    tokens, clean, mask = (case.inputs[f"{name}.{key}"] for key in ("latent", "clean", "mask"))
    nowhere = np.zeros((tokens.shape[0], 1, tokens.shape[1], 2), np.float32)
    return State(tokens, clean, np.array(mask)[..., 0], nowhere, tokens.shape[1])


def replayed(case: Case) -> Noise:
    """The draws of the case, in their order; each must be asked for with its own shape."""
    draws = iter([value for key, value in sorted(case.inputs.items()) if key.startswith("noise.")])

    def draw(shape: tuple[int, ...]) -> mx.array:
        noise = next(draws)
        assert noise.shape == tuple(shape)
        return noise

    return draw


def res2s_coefficients(case: Case) -> dict[str, np.ndarray]:
    return {"coef": np.array([coefficients(h) for h in case.inputs["h"].tolist()])}


COMPONENTS = {
    "guider": guider,
    "step": step,
    "loop": loop,
    "res2s_coefficients": res2s_coefficients,
}
