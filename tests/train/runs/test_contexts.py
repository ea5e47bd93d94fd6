"""Contexts that are kept and contexts that are made when needed are the same."""

import mlx.core as mx
import pytest

from ltx_infer.hub import find_model
from ltx_models.checkpoint import open_checkpoint
from ltx_models.errors import UserError
from ltx_models.transformer.config import TransformerConfig
from ltx_train.data.dataset import open_dataset
from ltx_train.runs.contexts import ContextSizes, caption_files, context_sizes, make_contexts

STREAMS = ("video", "audio")


@pytest.fixture
def checkpoint(tiny):
    return open_checkpoint(find_model("tiny", variant="dev").checkpoint)


@pytest.fixture
def dataset(data):
    return open_dataset(data, {"latents": "video"})


def test_made_when_needed_equals_kept(checkpoint, dataset):
    files = caption_files(dataset, dropout=0.1)
    done = []
    kept = make_contexts(checkpoint, files, STREAMS, report=lambda *each: done.append(each))
    assert done[-1] == ("text", 3, 3)
    made = make_contexts(checkpoint, files, STREAMS, report=done.append, always_kept=0)
    assert len(done) == 3
    for sample in (None, *dataset.samples):
        for one, other in zip(kept(sample), made(sample), strict=True):
            assert mx.array_equal(one, other)
    assert not mx.array_equal(kept(None).video, kept(dataset.samples[0]).video)


def test_only_what_the_run_has(checkpoint, dataset):
    files = caption_files(dataset, dropout=0)
    first = dataset.samples[0]
    video = make_contexts(checkpoint, files, ("video",), report=lambda *_: None)(first)
    assert video.video.shape == (1, 1024, 64)
    assert video.audio is None
    audio = make_contexts(checkpoint, files, ("audio",), report=lambda *_: None)(first)
    assert audio.audio.shape == (1, 1024, 32)
    assert audio.video.size == 0


def test_what_takes_less_memory_is_kept(checkpoint):
    config = checkpoint.section("transformer", TransformerConfig)
    sizes = context_sizes(config, STREAMS, dtype=mx.float32)
    assert sizes.each == 1024 * (64 + 32) * 4
    assert ContextSizes(each=10 << 20, connectors=4 << 30).of(400) == 4000 << 20
    assert ContextSizes(each=10 << 20, connectors=4 << 30).of(500) == 4 << 30
    assert ContextSizes(each=1 << 20, connectors=1).of(1000) == 1000 << 20


def test_no_features_of_no_caption(dataset):
    with pytest.raises(UserError, match=r"training_strategy\.caption_dropout: the data have no"):
        caption_files(dataset._replace(empty_prompt=None), dropout=0.1)
    assert list(caption_files(dataset._replace(empty_prompt=None), dropout=0)) == ["a", "sub/b"]
