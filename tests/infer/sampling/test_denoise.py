import mlx.core as mx
import numpy as np
import pytest

from ltx_infer.pipeline.recipes import Stage
from ltx_infer.sampling.denoise import Context, sample
from ltx_infer.sampling.state import State, add_noise, free_state, seeded_noise
from tests.models.transformer.sizes import POSITIONS, small_transformer

SIGMAS = (1.0, 0.6, 0.0)


@pytest.fixture(scope="module")
def model():
    return small_transformer("ltx23")


def states(model) -> dict[str, State]:
    channels = {"video": model.config.in_channels, "audio": model.config.audio_in_channels}
    return {
        name: free_state(mx.zeros((1, where.shape[2], channels[name])), where)
        for name, where in POSITIONS.items()
    }


CONTEXTS = {"video": Context(mx.ones((1, 3, 32))), "audio": Context(mx.ones((1, 3, 16)))}
STAGE = Stage(name="a stage", share=1.0, sigmas=SIGMAS)


def last(model, given, *, seed=0, **kwargs):
    *_, tokens = sample(model, given, CONTEXTS, STAGE, noise=seeded_noise(seed), **kwargs)
    return tokens


def test_noise_of_a_seed_repeats_and_differs_draw_by_draw():
    one, two = seeded_noise(7), seeded_noise(7)
    first, second = one((3, 4)), one((3, 4))
    assert mx.array_equal(two((3, 4)), first)
    assert not mx.array_equal(first, second)
    assert not mx.array_equal(seeded_noise(8)((3, 4)), first)


def test_noise_is_mixed_in_by_its_scale_and_given_tokens_stay():
    mask = np.array([[1.0, 0.0, 0.5]], np.float32)
    tokens, clean = mx.full((1, 3, 2), 2.0), mx.full((1, 3, 2), -1.0)
    noisy = add_noise(
        State(tokens, clean, mask, POSITIONS["audio"], num_tokens=3), mx.zeros((1, 3, 2)), 0.25
    )
    assert noisy[0, :, 0].tolist() == [1.5, -1.0, 0.25]


def test_same_seed_same_tokens_in_both_streams(model):
    given = states(model)
    one, two, other = last(model, given), last(model, given), last(model, given, seed=1)
    for stream in ("video", "audio"):
        assert mx.array_equal(one[stream], two[stream])
        assert not mx.allclose(one[stream], other[stream], atol=1e-2)


def test_given_tokens_are_the_clean_ones_after_every_step(model):
    given = states(model)
    clean = mx.random.normal(given["video"].tokens.shape, key=mx.random.key(3))
    mask = np.ones(clean.shape[:2], np.float32)
    mask[:, :6] = 0
    given["video"] = given["video"]._replace(clean=clean, denoise_mask=mask)
    for tokens in sample(model, given, CONTEXTS, STAGE, noise=seeded_noise(0)):
        assert mx.allclose(tokens["video"][:, :6], clean[:, :6], atol=1e-6)
        assert not mx.allclose(tokens["video"][:, 6:], clean[:, 6:], atol=0.1)


def test_noise_is_asked_video_first_and_can_be_replayed(model):
    given, asked = states(model), []

    def recorded(shape):
        asked.append(shape)
        return mx.full(shape, 0.5)

    list(sample(model, given, CONTEXTS, STAGE, noise=recorded))
    assert asked == [given["video"].tokens.shape, given["audio"].tokens.shape]
