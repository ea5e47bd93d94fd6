import mlx.core as mx
import numpy as np
import pytest

from ltx_train.loss import StreamBatch, sample_losses
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


@pytest.mark.parametrize("version", ["ltx2", "ltx23"])
def test_a_sample_has_the_same_loss_alone(version):
    model = small_transformer(version)
    batch = {name: stream(name, version=version) for name in ("video", "audio")}
    together = sample_losses(model, batch)
    for i in range(2):
        alone = {
            name: StreamBatch(*(part[i : i + 1] for part in whole)) for name, whole in batch.items()
        }
        assert sample_losses(model, alone).item() == pytest.approx(together[i].item(), rel=1e-5)


def test_given_tokens_enter_clean_and_carry_no_loss():
    """So their noise is without effect, while that of the others has one."""
    model = small_transformer("ltx23", streams=("video",))
    batch = stream("video", mask=first_given("video"))
    louder = mx.array(batch.noise)
    louder[:, :2] += 5
    other = mx.array(batch.noise)
    other[:, 2:] += 5
    loss, same, different = (
        sample_losses(model, {"video": batch._replace(noise=noise)})
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
    assert np.array(sample_losses(model, {"video": batch})) == pytest.approx(expected, rel=1e-5)


def test_a_sample_that_is_given_whole_has_no_loss():
    model = small_transformer("ltx23", streams=("video",))
    batch = stream("video", mask=np.zeros((2, POSITIONS["video"].shape[2]), np.float32))
    assert sample_losses(model, {"video": batch}).tolist() == [0, 0]
