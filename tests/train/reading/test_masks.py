import numpy as np

from ltx_models.transformer.patchify import AudioScale, audio_positions
from ltx_train.reading.masks import sound_weights

SCALE = AudioScale(16000, 160, 4)


def test_a_constant_stays_and_parts_are_means():
    assert np.allclose(
        sound_weights(np.full(48000, 0.25), rate=48000, num_latents=25, scale=SCALE), 0.25
    )
    ramp = np.arange(1600) / 1600
    weights = sound_weights(ramp, rate=1600, num_latents=25, scale=SCALE)
    bounds = audio_positions(25, scale=SCALE)[0, 0]
    assert np.allclose(weights, bounds.mean(axis=1), atol=1e-3)
    assert weights.dtype == np.float32


def test_a_sound_that_ends_just_before_its_last_latent():
    weights = sound_weights(np.ones(1000), rate=1600, num_latents=17, scale=SCALE)
    assert np.array_equal(weights, np.ones(17))
