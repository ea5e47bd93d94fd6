"""A configuration in words, read."""

import pytest

from ltx_train.config import Read, read_run

VALID = """\
model: {model_path: tiny}
lora: {rank: 8, alpha: 8}
training_strategy: {name: flexible, video: {}}
optimization: {steps: 20, batch_size: 1}
data: {preprocessed_data_root: data}
"""


@pytest.fixture
def read(tmp_path):
    """From a file of this text, with overrides, to what was read."""

    def read(*overrides: str, text: str = VALID, **more) -> Read:
        path = tmp_path / "lora.yaml"
        path.write_text(text)
        return read_run(path, overrides, **more)

    return read
