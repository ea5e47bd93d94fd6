import re

import mlx.core as mx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ltx_infer.flags import GROUPS
from ltx_infer.pipeline.sanity import SanityError, check_latents, check_sound, checked_frames
from ltx_models.errors import UserError

SHAPE = (8, 64, 64, 3)  # frames, height, width, channels


def noise(*, scale: float = 1.0, dtype: type = np.float32) -> np.ndarray:
    frames = np.random.default_rng(0).random(SHAPE) * scale
    return (frames * 255).astype(dtype) if dtype is np.uint8 else frames.astype(dtype)


def judge(*chunks: np.ndarray) -> list[np.ndarray]:
    return list(checked_frames(chunks, stage="decode"))


def test_an_error_is_the_users_to_mend():
    assert issubclass(SanityError, UserError)


@pytest.mark.parametrize("dtype", [mx.float32, mx.bfloat16])
@pytest.mark.parametrize("scale", [0.25, 1.0, 2.9])
def test_plausible_latents_pass(scale, dtype):
    latents = mx.random.normal((1, 4, 3, 16, 16), key=mx.random.key(0)) * scale
    check_latents(latents.astype(dtype), stage="stage 1, step 3")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_latents_that_are_not_finite_are_counted(value):
    latents = mx.random.normal((1, 4, 2, 2, 2), key=mx.random.key(0))
    latents[0, 1, 0, 0, :] = value
    with pytest.raises(SanityError) as error:
        check_latents(latents, stage="stage 1, step 3")
    assert str(error.value) == (
        "stage 1, step 3: 2 of 32 latent values are not finite.\n"
        "Try a lower --cfg-scale, no --lora, or more bits with -q."
    )


@pytest.mark.parametrize("scale", [0.0, 0.1, 4.0, 1e30])
def test_latents_of_an_odd_spread_are_named(scale):
    latents = mx.random.normal((1, 4, 2, 8, 8), key=mx.random.key(0)) * scale
    with pytest.raises(SanityError, match=r"stage 2: the latents' .* 0\.2 to 3"):
        check_latents(latents, stage="stage 2")


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_frames_pass_through_unchanged(dtype):
    first, second = np.array_split(noise(dtype=dtype), 2)
    assert [id(chunk) for chunk in judge(first, second)] == [id(first), id(second)]


def test_chunks_are_not_held_back():
    chunks = iter([noise(), noise()])
    frames = checked_frames(chunks, stage="decode")
    next(frames)
    assert next(chunks, None) is not None


@pytest.mark.parametrize("colour", [(0, 0, 0), (128, 128, 128), (255, 0, 0)])
def test_a_clip_of_one_colour_is_an_error(colour):
    flat = np.broadcast_to(np.array(colour, np.uint8), SHAPE)
    with pytest.raises(SanityError, match="decode: 8 of 8 frames are of one colour") as error:
        judge(flat)
    assert "--num-frames" in str(error.value)


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_frames_all_but_flat_are_flat(dtype):
    judge(noise(scale=12 / 255, dtype=dtype))
    with pytest.raises(SanityError, match="8 of 8 frames are of one colour"):
        judge(noise(scale=4 / 255, dtype=dtype))


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_chunk_that_is_not_finite_is_not_passed_on(value):
    good, bad = noise(), noise()
    bad[2, 7, 7, 1] = value  # one value, where a flat picture is not even looked for
    frames = checked_frames([good, bad], stage="decode")
    assert next(frames) is good
    with pytest.raises(SanityError) as error:
        next(frames)
    first, second = str(error.value).splitlines()
    assert first == "decode: frame 10 has values that are not finite."
    assert "--num-frames" in second


def advice() -> list[str]:
    """The messages of every kind of error."""
    wrong = noise()
    wrong[0] = np.nan
    calls = [
        lambda: check_latents(mx.full((2,), float("nan")), stage="s"),
        lambda: judge(wrong),
        lambda: judge(np.zeros(SHAPE, np.uint8)),
        lambda: judge(np.repeat(noise()[:1], 2, axis=0)),
        lambda: check_sound(np.full((2, 9), np.nan, np.float32), stage="s"),
        lambda: check_sound(np.zeros((2, 9), np.float32), stage="s"),
    ]
    messages = []
    for call in calls:
        with pytest.raises(SanityError) as error:
            call()
        messages.append(str(error.value))
    return messages


def test_only_flags_that_exist_are_advised():
    known = {name for flags in GROUPS.values() for flag in flags for name in flag.names}
    advised = [set(re.findall(r"(?<!\S)--?[a-z][a-z-]*", text)) for text in advice()]
    assert all(advised), "each message says what helps"
    assert set().union(*advised) <= known


@given(num_flat=st.integers(0, SHAPE[0]))
def test_a_fade_to_black_passes_and_a_broken_half_does_not(num_flat):
    frames = noise()
    frames[SHAPE[0] - num_flat :] = 0
    if 2 * num_flat <= SHAPE[0]:
        judge(frames)
    else:
        with pytest.raises(SanityError, match=f"{num_flat} of 8 frames"):
            judge(frames)


def test_a_frozen_clip_is_an_error():
    still = np.repeat(noise()[:1], 8, axis=0)
    with pytest.raises(SanityError, match="decode: all 8 frames are the same"):
        judge(still[:3], still[3:])


def test_a_clip_of_one_frame_is_a_picture():
    assert len(judge(noise()[:1])) == 1


def tone(level: float) -> np.ndarray:
    """A sine of a level in dBFS, stereo, a tenth of a second."""
    wave = np.sqrt(2) * 10 ** (level / 20) * np.sin(np.arange(2400) * 0.1)
    return np.stack([wave, wave]).astype(np.float32)


def test_audible_sound_passes():
    check_sound(tone(-59), stage="vocoder")


@pytest.mark.parametrize(
    ("waveform", "level"),
    [(tone(-61), -61), (np.zeros((2, 100), np.float32), -200), (np.zeros((2, 0)), -200)],
)
def test_silence_is_an_error(waveform, level):
    with pytest.raises(SanityError) as error:
        check_sound(waveform, stage="vocoder")
    assert str(error.value).startswith(f"vocoder: the sound is silence ({level} dBFS).\n")
    assert "leave out --audio" in str(error.value)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_sound_that_is_not_finite_is_an_error(value):
    waveform = tone(-6)
    waveform[1, 7] = value
    with pytest.raises(SanityError, match="vocoder: the sound is not finite"):
        check_sound(waveform, stage="vocoder")
