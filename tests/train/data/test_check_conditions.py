import numpy as np
import pytest

from ltx_models.errors import UserError
from ltx_models.transformer.patchify import VideoScale
from ltx_train.config.strategy import StrategyConfig
from ltx_train.data.batches import data_folders
from ltx_train.data.check_conditions import check_conditions
from ltx_train.data.dataset import open_dataset
from tests.train.data.sets import put_sample


@pytest.fixture
def check(tmp_path):
    """A clip of 3 x 2 x 4 latents and a still."""
    put_sample(tmp_path, "clip", latents=np.zeros((4, 3, 2, 4), np.float32))
    put_sample(tmp_path, "still", latents=np.zeros((4, 1, 2, 4), np.float32))

    def check(*names: str, **condition) -> list[str]:
        strategy = StrategyConfig.model_validate({"video": {"conditions": (condition,)}})
        samples = open_dataset(tmp_path, data_folders(strategy)).samples
        kept = [sample for sample in samples if sample.name in names]
        return check_conditions(kept, strategy, scale=VideoScale(8, 32))

    return check


def test_a_condition_that_fits_is_silent_and_one_that_fits_some_says_so(check):
    assert check("clip", type="first_frame") == []
    assert check("clip", "still", type="first_frame") == [
        "training_strategy.video.conditions.0: first_frame is not applied to 1 of 2 samples, as it "
        "would give all or nothing of them"
    ]
    assert "to 1 of 1 samples" in check("still", type="first_frame")[0]


@pytest.mark.parametrize(
    "condition",
    [
        {"type": "prefix", "temporal_boundary": 3},
        {"type": "suffix", "temporal_boundary": 8},
        {"type": "spatial_crop", "spatial_region": (0, 0, 31, 128)},
        {"type": "spatial_crop", "spatial_region": (64, 0, 96, 32)},
        {"type": "spatial_crop", "spatial_region": (0, 0, 64, 128)},
    ],
)
def test_a_condition_that_no_sample_can_have_is_an_error(check, condition):
    with pytest.raises(UserError) as error:
        check("clip", "still", **condition)
    assert str(error.value).startswith(
        f"training_strategy.video.conditions.0: {condition['type']} gives all or nothing"
    )
    assert len(str(error.value).splitlines()) == 1
