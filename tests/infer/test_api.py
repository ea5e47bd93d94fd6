import numpy as np
import pytest

from ltx_infer import Pipeline
from ltx_models.errors import UserError

SMALL = {"model": "tiny", "height": 64, "width": 64, "num_frames": 9}


def test_a_clip_in_memory_is_the_one_that_is_written(tiny, tmp_path):
    pipeline = Pipeline(**SMALL, audio=True)
    clip = pipeline("a boat", seed=3)
    assert clip.frames.shape == (9, 64, 64, 3)
    assert clip.sound.rate == 48000
    assert clip.latents.video.shape[2:] == (2, 2, 2)
    again = pipeline("a boat", seed=3)
    assert np.array_equal(clip.frames, again.frames)
    assert pipeline.write(tmp_path / "a.mp4", "a boat", seed=3).is_file()


def test_settings_of_a_call_replace_those_of_the_pipeline(tiny):
    pipeline = Pipeline("dev", **SMALL, steps=1)
    assert pipeline("a boat", num_frames=1).frames.shape[0] == 1
    with pytest.raises(UserError, match="--num-frames 'many'"):
        pipeline("a boat", num_frames="many")
    with pytest.raises(UserError, match="--hieght 3: Extra inputs are not permitted"):
        pipeline("a boat", hieght=3)


def test_what_goes_into_files_is_for_write(tiny, tmp_path):
    pipeline = Pipeline(**SMALL, placeholder=True, dummy_embeddings=True, preview=True)
    with pytest.raises(UserError, match=r"preview: for Pipeline\.write, which"):
        pipeline("a boat")
    pipeline.write(tmp_path / "a.mp4", "a boat")
    assert (tmp_path / "a.preview.png").is_file()


def test_package_has_no_other_lazy_names():
    with pytest.raises(ImportError):
        from ltx_infer import Pipelines  # noqa: F401, PLC0415
