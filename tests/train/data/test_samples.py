import mlx.core as mx
import numpy as np
import pytest

from ltx_models.errors import UserError
from ltx_train.data.samples import open_conditions, open_part, read_features, read_part
from tests.train.data.sets import CONDITIONS, LATENTS, put

ENDINGS = ("safetensors", "pt")
VIDEO = CONDITIONS["video_prompt_embeds"]


@pytest.fixture(params=ENDINGS)
def file(request, tmp_path):
    return tmp_path / f"a.{request.param}"


def same(found: mx.array, wanted: np.ndarray) -> bool:
    return found.dtype == mx.float32 and np.array_equal(np.array(found), wanted)


def test_latents_of_a_picture(file):
    put(file, {"latents": LATENTS}, fps=24.0, num_frames=2, height=1, width=3)
    part = open_part(file, "video")
    assert (part.shape, part.fps, part.num_tokens) == ((4, 2, 1, 3), 24.0, 6)
    assert same(read_part(part), LATENTS)


def test_tokens_as_the_public_trainer_once_stored_them(file):
    tokens = LATENTS.reshape(4, 6).T
    put(file, {"latents": tokens}, fps=24.0, num_frames=2, height=1, width=3)
    part = open_part(file, "video_reference")
    assert part.shape == (4, 2, 1, 3)
    assert same(read_part(part), LATENTS)
    put(file, {"latents": tokens}, fps=24.0, num_frames=2, height=1)
    with pytest.raises(UserError, match=r"6 tokens; num_frames, .* say \['2', '1', ''\]"):
        open_part(file, "video")


def test_sound_and_masks(file):
    sound = np.ones((8, 5, 16), np.float16)
    put(file, {"latents": sound}, num_time_steps=5, frequency_bins=16, duration=0.2)
    part = open_part(file, "audio")
    assert (part.shape, part.num_tokens) == ((8, 5, 16), 5)
    assert same(read_part(part), sound)
    put(file, {"mask": np.eye(2)[None] > 0})
    mask = open_part(file, "video_mask")
    assert mask.shape == (1, 2, 2)
    assert same(read_part(mask), np.eye(2, dtype=np.float32)[None])
    put(file, {"mask": np.arange(5, dtype=np.float32)})
    assert same(read_part(open_part(file, "audio_mask")), np.arange(5))


@pytest.mark.parametrize("side", [(1021, 0), (0, 1021), (0, 0)])
def test_features_are_those_of_valid_tokens(file, side):
    """As the public trainer pads them, to 1024, on either side; and unpadded."""
    pads = {k: np.pad(v, [side] + [(0, 0)] * (v.ndim - 1)) for k, v in CONDITIONS.items()}
    pads["prompt_attention_mask"] = pads["prompt_attention_mask"].astype(np.int64)
    put(file, pads)
    features = read_features(open_conditions(file))
    assert same(features.video, VIDEO)
    assert same(features.audio, CONDITIONS["audio_prompt_embeds"])


@pytest.mark.parametrize("mask", ["mask", "prompt_attention_mask"])
def test_features_under_their_old_names(file, mask):
    put(file, {"prompt_embeds": VIDEO, mask: np.array([0, 1, 1])})
    features = read_features(open_conditions(file))
    assert same(features.video, VIDEO[1:])
    assert same(features.audio, VIDEO[1:])


def said(call, *arguments) -> str:
    with pytest.raises(UserError) as error:
        call(*arguments)
    assert len(str(error.value).splitlines()) <= 3
    return str(error.value)


@pytest.mark.parametrize(
    ("role", "tensors", "about", "wanted"),
    [
        ("video", {"latents": LATENTS}, {"fps": "fast"}, "its metadata say fps 'fast'; frames a"),
        ("video", {"latents": LATENTS}, {"fps": "inf"}, "its metadata say fps 'inf'"),
        ("video", {"latents": LATENTS}, {"fps": 0}, "its metadata say fps '0'"),
        ("video", {"latents": LATENTS[0]}, {}, "latents has the shape (2, 1, 3); 4 axes"),
        ("video", {"latents": LATENTS[:, :0]}, {}, "latents has the shape (4, 0, 1, 3)"),
        ("video", {"other": LATENTS}, {}, "no tensor latents; it has other"),
        ("video", {"latents": LATENTS}, {"height": 2}, "say height 2, its latents have 1"),
        ("audio", {"latents": LATENTS}, {}, "latents has the shape (4, 2, 1, 3); 3 axes"),
        ("audio", {"latents": LATENTS[0]}, {"num_time_steps": 7}, "num_time_steps 7, its latents"),
        ("video_mask", {"latents": LATENTS}, {}, "no tensor mask; it has latents"),
        ("audio_mask", {"mask": LATENTS}, {}, "mask has the shape (4, 2, 1, 3); 1 axes"),
    ],
)
def test_headers_that_do_not_fit(file, role, tensors, about, wanted):
    put(file, tensors, **about)
    assert wanted in said(open_part, file, role)


@pytest.mark.parametrize(
    ("changes", "wanted"),
    [
        ({"video_prompt_embeds": None}, "no tensor video_prompt_embeds; it has"),
        ({"prompt_attention_mask": None}, "no tensor prompt_attention_mask"),
        ({"prompt_attention_mask": np.ones(4)}, "are of different lengths"),
        ({"audio_prompt_embeds": np.ones(3)}, "audio_prompt_embeds has the shape (3,); 2 axes"),
    ],
)
def test_conditions_that_do_not_fit(file, changes, wanted):
    put(file, {k: v for k, v in {**CONDITIONS, **changes}.items() if v is not None})
    assert wanted in said(open_conditions, file)


def test_values_that_cannot_be_trained_on(file):
    put(file, {"latents": LATENTS * np.nan}, fps=24.0)
    assert f"{file.name}: its latents are not all finite" in said(
        read_part, open_part(file, "video")
    )
    put(file, {**CONDITIONS, "audio_prompt_embeds": np.full((3, 2), np.inf, np.float32)})
    assert "its audio_prompt_embeds are not all" in said(read_features, open_conditions(file))
    put(file, {**CONDITIONS, "prompt_attention_mask": np.zeros(3)})
    assert "0 valid tokens; 1 to 1024 would" in said(read_features, open_conditions(file))


def test_a_safetensors_file_that_does_not_say_its_fps(tmp_path):
    """An old .pt file may leave it out; ours never did."""
    put(tmp_path / "a.safetensors", {"latents": LATENTS})
    assert "say fps ''; frames a second are wanted" in said(
        open_part, tmp_path / "a.safetensors", "video"
    )
    put(tmp_path / "a.pt", {"latents": LATENTS})
    assert open_part(tmp_path / "a.pt", "video").fps == 24.0
