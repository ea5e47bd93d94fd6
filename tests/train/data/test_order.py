from itertools import islice

import numpy as np
import pytest

from ltx_models.errors import UserError
from ltx_train.data.dataset import open_dataset
from ltx_train.data.order import batches_per_epoch, check_batches, endless_batches
from tests.train.data.sets import put_sample


@pytest.fixture
def samples(tmp_path):
    """Samples of one letter; capitals are larger."""

    def samples(names: str):
        for name in names:
            size = (4, 2, 2, 3) if name.isupper() else (4, 2, 1, 3)
            put_sample(tmp_path, name, latents=np.zeros(size, np.float32))
        return open_dataset(tmp_path, {"latents": "video"}).samples

    return samples


def names(samples, count: int, *, size: int = 1, seed: int = 3, start: int = 0) -> list[str]:
    batches = endless_batches(samples, batch_size=size, seed=seed, start=start)
    return ["".join(sample.name for sample in batch) for batch in islice(batches, count)]


def test_every_sample_once_an_epoch_in_an_order_of_the_seed(samples):
    found = samples("abcdefg")
    epochs = names(found, 14)
    assert sorted(epochs[:7]) == sorted(epochs[7:]) == list("abcdefg")
    assert epochs[:7] != epochs[7:]
    assert names(found, 14) == epochs != names(found, 14, seed=4)
    pairs = names(found, 3, size=2)
    assert [len(pair) for pair in pairs] == [2, 2, 2]
    assert len(set("".join(pairs))) == 6


def test_a_batch_has_samples_of_one_size(samples):
    found = samples("abcdeUVW")
    assert batches_per_epoch(found, batch_size=2) == 3
    batches = names(found, 30, size=2)
    assert all(batch.isupper() or batch.islower() for batch in batches)
    for epoch in range(10):
        letters = "".join(batches[3 * epoch : 3 * epoch + 3])
        assert len(set(letters)) == 6
        assert sum(map(str.isupper, letters)) == 2
    assert set("".join(batches)) == set("abcdeUVW")  # what is left out is not always the same
    assert {batches[3 * epoch].isupper() for epoch in range(10)} == {True, False}


@pytest.mark.parametrize("size", [1, 2])
def test_any_batch_can_be_the_first(samples, size):
    found = samples("abcdeUVW")
    whole = names(found, 20, size=size)
    for start in (0, 1, 2, 3, 7, 8, 13):
        assert names(found, 5, size=size, start=start) == whole[start : start + 5]


def test_what_is_left_out_is_said(samples):
    found = samples("abcdeUVWX")
    assert check_batches(found, batch_size=1) == []
    assert check_batches(found, batch_size=2) == [
        "optimization.batch_size 2: 1 of 9 samples, others each time, are left out of every epoch, "
        "as they fill no batch of one size"
    ]
    assert check_batches(found, batch_size=5) == [
        "optimization.batch_size 5: 4 samples are never trained on, as there are not as many of "
        "their size: U, V, W, ..."
    ]


def test_batches_that_cannot_be_made(samples):
    with pytest.raises(UserError, match=r"3 samples of 2 sizes, at most 2 of one; 2 would fit"):
        check_batches(samples("abU"), batch_size=3)
