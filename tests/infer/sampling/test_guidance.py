from dataclasses import replace
from functools import partial

import mlx.core as mx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ltx_infer.sampling.guidance import (
    HQ,
    LTX_2,
    LTX_2_3,
    UNGUIDED,
    Apg,
    Guidance,
    Pass,
    accumulate,
    check_blocks,
    combine,
    default_guidance,
    guided,
    in_batches,
    needed_passes,
    projected,
    scaled_blocks,
    stack,
    text_direction,
    unstack,
)
from ltx_models.errors import UserError
from ltx_models.flow import denoised
from ltx_models.transformer.model import Modality, Perturbation
from ltx_models.transformer.timestep import Timesteps
from tests.models.transformer.sizes import POSITIONS, small_transformer

STREAMS = ("video", "audio")
ALL = {
    "video": Guidance(cfg=3.0, stg=1.0, modality=3.0, rescale=0.7, stg_blocks=(1,)),
    "audio": Guidance(cfg=7.0, stg=1.0, modality=3.0, rescale=0.7, stg_blocks=(1,)),
}


def arrays(count: int, *, batch: int = 1) -> list[mx.array]:
    return list(mx.random.normal((count, batch, 5, 4), key=mx.random.key(count)))


def same(tokens):
    return tokens


def test_guidance_that_is_off_gives_cond():
    (cond,) = arrays(1)
    assert mx.array_equal(combine(cond, guidance=Guidance()), cond)


def test_guidance_leads_away_from_every_other_pass():
    cond, uncond, perturbed, isolated = arrays(4)
    guidance = Guidance(cfg=3.0, stg=0.5, modality=2.0)
    found = combine(cond, uncond=uncond, perturbed=perturbed, isolated=isolated, guidance=guidance)
    want = cond + 2 * (cond - uncond) + 0.5 * (cond - perturbed) + (cond - isolated)
    assert mx.allclose(found, want, atol=1e-5)


def test_full_rescale_gives_the_deviation_of_cond_back():
    cond, uncond = arrays(2)
    found = combine(cond, uncond=uncond, guidance=Guidance(cfg=5.0, rescale=1.0))
    assert mx.std(found).item() == pytest.approx(mx.std(cond).item(), rel=1e-5)
    half = combine(cond, uncond=uncond, guidance=Guidance(cfg=5.0, rescale=0.5))
    plain = combine(cond, uncond=uncond, guidance=Guidance(cfg=5.0))
    assert mx.allclose(half, (found + plain) / 2, atol=1e-5)


def test_guidance_is_float32():
    cond, uncond = (x.astype(mx.bfloat16) for x in arrays(2))
    assert combine(cond, uncond=uncond, guidance=Guidance(cfg=3.0)).dtype == mx.float32


def test_cfg_star_does_not_see_the_length_of_uncond():
    cond, uncond = arrays(2)
    one = text_direction(cond, uncond, "cfg_star")
    other = text_direction(cond, 9 * uncond, "cfg_star")
    assert mx.allclose(one, other, atol=1e-4)
    assert not mx.allclose(one, cond - uncond, atol=1e-2)


def test_apg_with_eta_one_is_cfg_and_with_zero_is_orthogonal_to_cond():
    cond, uncond = arrays(2, batch=3)
    assert mx.allclose(text_direction(cond, uncond, Apg()), cond - uncond, atol=1e-5)
    orthogonal = text_direction(cond, uncond, Apg(eta=0.0))
    assert mx.allclose((orthogonal * cond).sum((1, 2)), mx.zeros(3), atol=1e-4)


def test_apg_is_each_samples_own():
    cond, uncond = arrays(2, batch=3)
    apg = Apg(eta=0.3, norm_threshold=2.0)
    together = projected(cond - uncond, cond, apg)
    for i in range(3):
        alone = projected((cond - uncond)[i : i + 1], cond[i : i + 1], apg)
        assert mx.allclose(together[i : i + 1], alone, atol=1e-6)


@settings(max_examples=30, deadline=None)
@given(st.floats(0.1, 20))
def test_apg_bounds_the_norm_of_the_difference(threshold):
    (cond, difference), apg = arrays(2), Apg(norm_threshold=threshold)
    norm = mx.linalg.norm(projected(difference, cond, apg)).item()
    assert norm == pytest.approx(min(threshold, mx.linalg.norm(difference).item()), rel=1e-4)


def test_momentum_adds_to_the_sum_so_far():
    first, second = arrays(2)
    assert accumulate(first, None, 0.5) is first
    assert mx.allclose(accumulate(second, first, 0.5), second + 0.5 * first)


def test_passes_are_those_that_some_stream_needs():
    isolated = (Perturbation("audio_to_video"), Perturbation("video_to_audio"))
    assert needed_passes(UNGUIDED) == (Pass("cond"),)
    assert needed_passes({"audio": Guidance(cfg=2.0)}) == (Pass("cond"), Pass("uncond", ("audio",)))
    one_stream = {**ALL, "audio": Guidance()}
    assert needed_passes(one_stream) == (
        Pass("cond"),
        Pass("uncond", ("video", "audio")),
        Pass("perturbed", (), (Perturbation("video_self_attention", (1,)),)),
        Pass("isolated", (), isolated),
    )
    both = (
        Perturbation("video_self_attention", (29,)),
        Perturbation("audio_self_attention", (29,)),
    )
    assert needed_passes(LTX_2)[2].perturbations == both
    assert [p.name for p in needed_passes(HQ)] == ["cond", "uncond", "isolated"]


def test_defaults_by_version():
    assert default_guidance((2, 0), num_layers=48) == LTX_2
    assert default_guidance((2, 3), num_layers=48) == LTX_2_3
    assert default_guidance((2, 4, 1), num_layers=48) == LTX_2_3
    assert default_guidance((2, 3), num_layers=6)["audio"].stg_blocks == (3,)


@pytest.mark.parametrize("num_layers", [1, 2, 3, 6, 24, 47, 48])
def test_scaled_blocks_are_in_the_model(num_layers):
    (block,) = scaled_blocks((29,), num_layers)
    assert 0 <= block < num_layers


def test_a_block_that_is_not_there_is_an_error():
    check_blocks(ALL, num_layers=2)
    with pytest.raises(UserError, match="STG block 1: this model has blocks 0 to 0"):
        check_blocks(ALL, num_layers=1)


def test_batches_hold_every_pass_once():
    passes = needed_passes(ALL)
    assert [len(b) for b in in_batches(passes, 3)] == [3, 1]
    assert in_batches(passes, 9) == (passes,)
    assert sum(in_batches(passes, 1), ()) == passes


def test_unstacking_inverts_stacking():
    video, audio = arrays(2, batch=2)
    first, second = unstack((stack(video, 2), stack(audio, 2)), 2)
    for again in (first, second):
        assert mx.array_equal(again[0], video)
        assert mx.array_equal(again[1], audio)


def run(predict, guidance, *, sigmas=(1.0, 0.7, 0.4), size=4, x=None):
    denoise = guided(
        predict,
        guidance,
        streams=STREAMS,
        batches=in_batches(needed_passes(guidance), size),
        sigmas=sigmas,
        blend=same,
    )
    return [denoise(x or tuple(arrays(2)), sigma) for sigma in sigmas]


def model_predict(model, contexts):
    """The transformer as guidance calls it."""

    def predict(x, sigma, passes, enabled):
        inputs = []
        for name, tokens in zip(STREAMS, x, strict=True):
            context = mx.concatenate([contexts[name][name in p.negative] for p in passes])
            prepared = model.prepare(
                name, positions=np.repeat(POSITIONS[name], len(passes), axis=0), context=context
            )
            level = mx.full((len(passes),), sigma)
            tokens = stack(tokens, len(passes))
            inputs.append(Modality(tokens, level, Timesteps(mx.array([sigma])), prepared))
        velocities = model(
            *inputs, perturbations=[p.perturbations for p in passes], enabled=enabled
        )
        clean = [denoised(m.latents, v, sigma) for m, v in zip(inputs, velocities, strict=True)]
        return unstack(tuple(clean), len(passes))

    return predict


@pytest.fixture(scope="module")
def small_predict():
    model = small_transformer("ltx23")
    keys = mx.random.split(mx.random.key(0), 2)
    contexts = {
        "video": list(mx.random.normal((2, 1, 3, 32), key=keys[0])),
        "audio": list(mx.random.normal((2, 1, 3, 16), key=keys[1])),
    }
    tokens = {
        name: mx.random.normal((1, POSITIONS[name].shape[2], channels), key=key)
        for name, channels, key in zip(STREAMS, (6, 10), keys, strict=True)
    }
    return partial(run, model_predict(model, contexts), x=tuple(tokens.values()))


def test_batched_passes_equal_passes_one_after_the_other(small_predict):
    together, alone = small_predict(ALL, size=4), small_predict(ALL, size=1)
    for a, b in zip(together, alone, strict=True):
        assert all(mx.allclose(x, y, atol=1e-4) for x, y in zip(a, b, strict=True))
    plain = small_predict(UNGUIDED)
    assert not mx.allclose(plain[0][0], together[0][0], atol=1e-2)
    assert not mx.allclose(plain[0][1], together[0][1], atol=1e-2)


def test_each_pass_changes_the_result(small_predict):
    plain = small_predict(UNGUIDED)[0]
    for change in ({"cfg": 3.0}, {"stg": 1.0, "stg_blocks": (1,)}, {"modality": 3.0}):
        guidance = {name: Guidance(**change) for name in STREAMS}
        for a, b in zip(plain, small_predict(guidance)[0], strict=True):
            assert not mx.allclose(a, b, atol=1e-3), change


def test_a_skipped_stream_keeps_its_prediction_and_both_make_no_call():
    calls = []

    def predict(x, sigma, passes, enabled):
        calls.append((sigma, enabled))
        return [tuple(mx.full(a.shape, sigma) for a in x) for _ in passes]

    sigmas = (0.9, 0.8, 0.7, 0.6)
    guidance = {"video": Guidance(skip_step=1), "audio": Guidance(skip_step=2)}
    results = run(predict, guidance, sigmas=sigmas)
    assert calls == [(0.9, ("video", "audio")), (0.7, ("video",)), (0.6, ("audio",))]
    video, audio = ([round(r[i].max().item(), 3) for r in results] for i in range(2))
    assert video == [0.9, 0.9, 0.7, 0.7]
    assert audio == [0.9, 0.9, 0.9, 0.6]


def test_a_level_between_two_steps_is_never_skipped():
    calls = []

    def predict(x, sigma, passes, enabled):
        calls.append(sigma)
        return [x]

    denoise = guided(
        predict,
        {name: Guidance(skip_step=5) for name in STREAMS},
        streams=STREAMS,
        batches=((Pass("cond"),),),
        sigmas=(1.0, 0.5),
        blend=same,
    )
    for sigma in (1.0, 0.7, 0.5):
        denoise(tuple(arrays(2)), sigma)
    assert calls == [1.0, 0.7]


def test_an_unguided_stream_is_its_own_cond():
    cond, uncond = arrays(2)

    def predict(x, sigma, passes, enabled):
        return [(cond, cond) if p.name == "cond" else (uncond, uncond) for p in passes]

    video, audio = run(predict, {"video": Guidance(cfg=3.0)}, sigmas=(1.0,))[0]
    assert mx.allclose(video, cond + 2 * (cond - uncond), atol=1e-5)
    assert mx.array_equal(audio, cond)


def test_momentum_goes_from_step_to_step_in_each_stream():
    cond, uncond = arrays(2)

    def predict(x, sigma, passes, enabled):
        return [(cond, 2 * cond), (uncond, 2 * uncond)]

    guidance = Guidance(cfg=2.0, text=Apg(momentum=0.5))
    results = run(predict, {"video": guidance, "audio": guidance})
    difference = cond - uncond
    for step, factor in enumerate((1, 1.5, 1.75)):
        assert mx.allclose(results[step][0], cond + factor * difference, atol=1e-4)
        assert mx.allclose(results[step][1], 2 * cond + 2 * factor * difference, atol=1e-4)
    plain = {name: replace(guidance, text="cfg") for name in STREAMS}
    assert mx.allclose(run(predict, plain)[2][0], cond + difference, atol=1e-5)


def test_what_is_given_is_blended_in():
    denoise = guided(
        lambda x, sigma, passes, enabled: [x],
        UNGUIDED,
        streams=("audio",),
        batches=in_batches(needed_passes(UNGUIDED), 1),
        sigmas=(1.0,),
        blend=lambda tokens: tuple(a * 0 + 3 for a in tokens),
    )
    assert denoise((mx.ones((1, 2, 2)),), 1.0)[0].tolist() == [[[3.0, 3.0], [3.0, 3.0]]]
