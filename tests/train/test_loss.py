import mlx.core as mx
import numpy as np
import pytest

from ltx_models.transformer.model import Transformer
from ltx_train.loss import Batch, StreamBatch, input_maker, mean_loss, sample_losses
from tests.models.transformer.sizes import CONFIGS, POSITIONS, small_transformer

WIDTHS = {"video": "cross_attention_dim", "audio": "audio_cross_attention_dim"}
CHANNELS = {"video": "in_channels", "audio": "audio_in_channels"}


def stream(name: str, *, version: str = "ltx23", mask: np.ndarray | None = None) -> StreamBatch:
    """A stream of two samples at different levels."""
    config = CONFIGS[version]
    num_tokens = POSITIONS[name].shape[2]
    width = getattr(config, WIDTHS[name]) if version == "ltx23" else config.caption_channels
    keys = mx.random.split(mx.random.key(len(name)), 3)
    shape = (2, num_tokens, getattr(config, CHANNELS[name]))
    return StreamBatch(
        x_0=mx.random.normal(shape, key=keys[0]),
        noise=mx.random.normal(shape, key=keys[1]),
        sigma=np.array([0.3, 0.8], np.float32),
        denoise_mask=np.ones(shape[:2], np.float32) if mask is None else mask,
        positions=POSITIONS[name].repeat(2, axis=0),
        context=mx.random.normal((2, 3, width), key=keys[2]),
    )


def first_given(name: str) -> np.ndarray:
    mask = np.ones((2, POSITIONS[name].shape[2]), np.float32)
    mask[:, :2] = 0
    return mask


def losses(model: Transformer, batch: Batch) -> mx.array:
    """Of each sample, the sum over its streams."""
    return sum(sample_losses(model, input_maker(model)(batch)).values())


@pytest.mark.parametrize("version", ["ltx2", "ltx23"])
def test_a_sample_has_the_same_loss_alone(version):
    model = small_transformer(version)
    batch = {name: stream(name, version=version) for name in ("video", "audio")}
    together = losses(model, batch)
    for i in range(2):
        alone = {
            name: StreamBatch(*(part[i : i + 1] for part in whole[:-1]))
            for name, whole in batch.items()
        }
        assert losses(model, alone).item() == pytest.approx(together[i].item(), rel=1e-5)


def test_given_tokens_enter_clean_and_carry_no_loss():
    """So their noise is without effect, while that of the others has one."""
    model = small_transformer("ltx23", streams=("video",))
    batch = stream("video", mask=first_given("video"))
    louder = mx.array(batch.noise)
    louder[:, :2] += 5
    other = mx.array(batch.noise)
    other[:, 2:] += 5
    loss, same, different = (
        losses(model, {"video": batch._replace(noise=noise)})
        for noise in (batch.noise, louder, other)
    )
    assert mx.array_equal(loss, same)
    assert not mx.allclose(loss, different)


def test_loss_is_the_mean_over_what_is_generated():
    """Of a model that answers 0, the error is the velocity itself."""
    model = small_transformer("ltx23", streams=("video",))
    model.proj_out.weight *= 0
    model.proj_out.bias *= 0
    batch = stream("video", mask=first_given("video"))
    velocity = np.array(batch.noise - batch.x_0)[:, 2:]
    expected = (velocity**2).mean(axis=(1, 2))
    assert np.array(losses(model, {"video": batch})) == pytest.approx(expected, rel=1e-5)


def test_a_sample_that_is_given_whole_has_no_loss():
    model = small_transformer("ltx23", streams=("video",))
    batch = stream("video", mask=np.zeros((2, POSITIONS["video"].shape[2]), np.float32))
    assert losses(model, {"video": batch}).tolist() == [0, 0]


def test_tokens_of_a_reference_are_read_but_answer_for_nothing():
    model = small_transformer("ltx23", streams=("video",))
    own = stream("video")
    reference = mx.random.normal((2, 3, own.x_0.shape[2]), key=mx.random.key(1))

    def with_reference(x_0: mx.array) -> mx.array:
        batch = own._replace(
            x_0=mx.concatenate([x_0, own.x_0], axis=1),
            denoise_mask=np.pad(own.denoise_mask, ((0, 0), (3, 0))),
            positions=np.concatenate([own.positions[:, :, :3], own.positions], axis=2),
        )
        (given,) = input_maker(model)({"video": batch}).values()
        assert given.velocity is not None
        assert given.velocity.shape[1] == given.loss_mask.shape[1] == own.x_0.shape[1]
        assert mx.array_equal(given.tokens[:, :3], x_0)
        return losses(model, {"video": batch})

    first, other = with_reference(reference), with_reference(2 * reference)
    assert not mx.allclose(first, other)
    assert not mx.allclose(first, losses(model, {"video": own}))


def test_a_frozen_stream_is_clean_and_has_no_loss_but_an_effect():
    model = small_transformer("ltx23")
    sound = stream("audio")._replace(
        noise=None, sigma=np.zeros(2, np.float32), denoise_mask=np.zeros((2, 5), np.float32)
    )
    batch = {"video": stream("video"), "audio": sound}
    inputs = input_maker(model)(batch)
    assert mx.array_equal(inputs["audio"].tokens, sound.x_0)
    assert inputs["audio"].timesteps.per_token().tolist() == [[0]]
    found = sample_losses(model, inputs)
    assert found.keys() == {"video"}
    other = sample_losses(
        model, input_maker(model)({**batch, "audio": sound._replace(x_0=-sound.x_0)})
    )
    assert not mx.allclose(found["video"], other["video"])


def test_streams_count_by_their_weight():
    model = small_transformer("ltx23")
    batch = {"video": stream("video"), "audio": stream("audio")._replace(loss_weight=0.25)}
    inputs = input_maker(model)(batch)
    found = sample_losses(model, inputs)
    expected = found["video"].mean() + 0.25 * found["audio"].mean()
    assert mean_loss(found, inputs).item() == pytest.approx(expected.item(), rel=1e-6)


def test_positions_that_samples_share_are_one_table():
    model = small_transformer("ltx23", streams=("video",))
    own = stream("video")
    make = input_maker(model)
    (same,) = make({"video": own}).values()
    later = own.positions.copy()
    later[1] += 1
    (different,) = make({"video": own._replace(positions=later)}).values()
    assert same.rope[0].shape[0] == 1
    assert different.rope[0].shape[0] == 2
    assert mx.array_equal(different.rope[0][:1], same.rope[0])
    (again,) = make({"video": own}).values()
    assert again.rope[0] is same.rope[0]
