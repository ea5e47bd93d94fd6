import mlx.core as mx
import pytest

from ltx_models.errors import UserError
from ltx_models.text_encoder import (
    PromptContext,
    connect,
    encode_features,
    encode_prompts,
    num_tokens_left_out,
    stream_features,
)
from ltx_models.text_encoder.tokenizer import load_tokenizer, num_tokens
from ltx_models.weights import WeightsError

NORM = "language_model.model.norm.weight"
PROMPTS = ["A red fox runs through snow.", "", "Two boats, at dusk"]


def test_batch_equals_one_by_one(checkpoint, gemma_folder):
    together = encode_prompts(gemma_folder, checkpoint, PROMPTS, max_length=128, dtype=mx.float32)
    assert len(together) == 3
    for prompt, found in zip(PROMPTS, together, strict=True):
        (alone,) = encode_prompts(
            gemma_folder, checkpoint, [prompt], max_length=128, dtype=mx.float32
        )
        assert mx.array_equal(found.video, alone.video)
        assert mx.array_equal(found.audio, alone.audio)
    assert not mx.allclose(together[0].video, together[2].video, atol=0.01)


def test_without_sound(checkpoint, gemma_folder):
    both, video_only = (
        encode_prompts(
            gemma_folder, checkpoint, PROMPTS[:1], audio=audio, max_length=128, dtype=mx.float32
        )[0]
        for audio in (True, False)
    )
    assert isinstance(video_only, PromptContext)
    assert video_only.audio is None
    assert both.audio.shape[:2] == (1, 128)
    assert mx.array_equal(both.video, video_only.video)


def test_no_prompts(checkpoint, gemma_folder):
    assert encode_prompts(gemma_folder, checkpoint, [], dtype=mx.float32) == []


def test_features_hold_valid_tokens_only(checkpoint, gemma_folder):
    fox, empty, _ = encode_features(gemma_folder, checkpoint, PROMPTS, dtype=mx.float32)
    assert fox.video.shape[0] == fox.audio.shape[0] > 5
    assert empty.video.shape[0] == 1  # BOS


def test_computes_in_bfloat16(checkpoint, gemma_folder):
    exact, rounded = (
        encode_prompts(gemma_folder, checkpoint, PROMPTS[:1], max_length=128, dtype=dtype)[0]
        for dtype in (mx.float32, mx.bfloat16)
    )
    for wanted, found in zip(exact, rounded, strict=True):
        assert found.dtype == mx.bfloat16
        assert 1e-4 < (wanted - found).std().item() < 0.05


def test_gemma_is_gone_when_the_connectors_run(changed_gemma, checkpoint):
    """The peak is that of the largest network, not that of two of them."""
    vocabulary = 200_000
    embedding = "language_model.model.embed_tokens.weight"

    def grow(tensors):
        rows = mx.zeros((vocabulary - 640, 48))
        return tensors | {embedding: mx.concatenate([tensors[embedding], rows])}

    folder = changed_gemma(change=grow, vocab_size=vocabulary)
    gemma_size = vocabulary * 48 * 4

    def peak_of(call):
        mx.clear_cache()
        before = mx.get_active_memory()
        mx.reset_peak_memory()
        result = call()
        return mx.get_peak_memory() - before, mx.get_active_memory() - before, result

    def features_of_all():
        return encode_features(folder, checkpoint, PROMPTS, dtype=mx.float32)

    gemma_peak, left, features = peak_of(features_of_all)
    assert gemma_peak >= gemma_size
    assert left < gemma_size / 50
    connect_peak, left, _ = peak_of(lambda: connect(checkpoint, features, dtype=mx.float32))
    assert connect_peak > gemma_size / 10
    assert left < connect_peak / 5

    peak, left, _ = peak_of(lambda: encode_prompts(folder, checkpoint, PROMPTS, dtype=mx.float32))
    assert peak < gemma_peak + connect_peak / 2
    assert left < gemma_size / 10
    assert mx.get_cache_memory() < gemma_size / 10


def test_states_do_not_pile_up(checkpoint, gemma_folder):
    """Many prompts go through with Gemma and projection both there, at the peak of a few."""
    prompts = [f"{number} " + "A red fox runs through snow. " * 40 for number in range(12)]

    def peak_and_features(prompts):
        mx.clear_cache()
        mx.reset_peak_memory()
        before = mx.get_active_memory()
        streamed = stream_features(gemma_folder, checkpoint, prompts, dtype=mx.float32)
        sums = [features.video.sum().item() for features in streamed]
        return mx.get_peak_memory() - before, sums

    few, first = peak_and_features(prompts[:4])
    many, all_of_them = peak_and_features(prompts)
    assert many < 1.25 * few  # states of eight more prompts would be half as much again
    assert all_of_them[:4] == first


def test_features_do_not_depend_on_how_many_are_asked_for(checkpoint, gemma_folder):
    """A few prompts: Gemma is freed before the projection comes; many: both stay."""
    many = [f"{prompt} {number}" for number in range(40) for prompt in PROMPTS]
    together = list(stream_features(gemma_folder, checkpoint, many, dtype=mx.float32))
    for index in (0, 61, 119):
        (alone,) = encode_features(gemma_folder, checkpoint, [many[index]], dtype=mx.float32)
        assert mx.array_equal(together[index].video, alone.video)
        assert mx.array_equal(together[index].audio, alone.audio)


def test_how_much_of_a_prompt_is_left_out(gemma_folder):
    prompt = "A red fox runs through snow. " * 9
    total = num_tokens(load_tokenizer(gemma_folder), prompt)
    prompts = [prompt, "A fox", prompt]
    assert num_tokens_left_out(gemma_folder, prompts, max_length=total - 3) == [3, 0, 3]
    assert num_tokens_left_out(gemma_folder, prompts, max_length=total) == [0, 0, 0]
    assert num_tokens_left_out(gemma_folder / "gone", prompts) == [0, 0, 0]  # not looked at


def test_values_that_are_not_finite_are_an_error(changed_gemma, checkpoint):
    folder = changed_gemma(change=lambda t: t | {NORM: mx.full(t[NORM].shape, float("nan"))})
    with pytest.raises(UserError) as error:
        encode_features(folder, checkpoint, PROMPTS, dtype=mx.float32)
    assert str(error.value).splitlines() == [
        f"{folder}: this text encoder gives values that are not finite for "
        "'A red fox runs through snow.'",
        "Fetch it again, or name another conversion with --text-encoder-repo DIR.",
    ]


def test_misfit_shows_before_gemma_is_read(changed_gemma, checkpoint):
    folder = changed_gemma(num_hidden_layers=4)
    (folder / "model.safetensors").unlink()
    with pytest.raises(WeightsError, match=r"192 features a token, but this Gemma gives 240: 48 "):
        encode_prompts(folder, checkpoint, PROMPTS, dtype=mx.float32)


def test_tokenizer_of_another_vocabulary_is_an_error(changed_gemma, checkpoint):
    folder = changed_gemma(vocab_size=300)
    with pytest.raises(UserError, match=r"its tokenizer\.json gives token \d+, but .* of 300"):
        encode_prompts(folder, checkpoint, PROMPTS, dtype=mx.float32)
