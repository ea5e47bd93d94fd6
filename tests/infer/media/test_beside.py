import threading
from functools import partial

import numpy as np
import pytest

from ltx_infer.media.beside import write_beside
from ltx_infer.media.write import write_clip
from ltx_models.errors import UserError


def chunks(count: int, *, then: BaseException | None = None):
    """Chunks of two frames, brighter from one to the next."""
    for number in range(count):
        yield np.full((2, 32, 32, 3), number / 10, np.float32)
    if then is not None:
        raise then


def test_the_file_is_the_same(tmp_path):
    for name, write in (("a", write_beside), ("b", lambda write, frames: write(frames))):
        one = partial(write_clip, tmp_path / f"{name}.mp4", fps=24)
        assert write(lambda frames, one=one: one(frames), chunks(9)) == 18
    assert (tmp_path / "a.mp4").read_bytes() == (tmp_path / "b.mp4").read_bytes()


def test_frames_are_made_beside_the_writing():
    """The writer has the first chunk in hand when the third is made, and waits for it."""
    third = threading.Event()

    def write(frames) -> int:
        count = 0
        for _ in frames:
            assert third.wait(10)
            count += 1
        return count

    def made():
        for number, chunk in enumerate(chunks(5), 1):
            if number == 3:
                third.set()
            yield chunk

    assert write_beside(write, made()) == 5


@pytest.mark.parametrize("error", [UserError("no frame"), KeyboardInterrupt()], ids=type)
def test_what_ends_the_frames_leaves_no_file(tmp_path, error):
    path = tmp_path / "a.mp4"
    with pytest.raises(type(error)) as raised:
        write_beside(lambda frames: write_clip(path, frames, fps=24), chunks(3, then=error))
    assert raised.value is error
    assert list(tmp_path.iterdir()) == []


def test_what_the_writer_raises_is_raised(tmp_path):
    """Also with more frames to come than are passed on."""
    frames = (np.zeros((1, size, 32, 3), np.float32) for size in [31] * 50)
    with pytest.raises(UserError, match="needs an even width and height"):
        write_beside(lambda frames: write_clip(tmp_path / "a.mp4", frames, fps=24), frames)
    assert list(tmp_path.iterdir()) == []
