"""One run at a time in a folder."""

import pytest

from ltx_models.errors import UserError
from ltx_train.runs.alone import alone_in


def test_a_second_one_is_told_and_a_later_one_is_not(tmp_path):
    folder = tmp_path / "out"
    told = rf"output_dir {folder}: another run writes to it\."
    with alone_in(folder), pytest.raises(UserError, match=told), alone_in(folder):
        pass
    with alone_in(folder), alone_in(tmp_path / "other"):
        pass
    with alone_in(folder):
        assert not list(folder.iterdir())
