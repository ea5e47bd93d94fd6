import json

import mlx.core as mx
import mlx.nn as nn
import pytest
from mlx.utils import tree_flatten
from mlx_lm.utils import load_model, quantize_model, save_model

from ltx_models.errors import UserError
from ltx_models.text_encoder.gemma import hidden_states, load_gemma
from ltx_models.text_encoder.gemma_config import read_gemma_config
from ltx_models.weights import WeightsError

IDS = [2, 287, 300, 306, 312, 318, 284, 290]
LM = "language_model.model"


def load(folder, dtype=mx.float32):
    return load_gemma(folder, read_gemma_config(folder), dtype=dtype)


def difference(a: mx.array, b: mx.array) -> float:
    """Root mean square of the difference, relative to b's."""
    a, b = a.astype(mx.float32), b.astype(mx.float32)
    return mx.sqrt((a - b).square().mean() / b.square().mean()).item()


def test_layer_by_layer_on_metal(gemma_folder, monkeypatch):
    gemma, wanted = load(gemma_folder), hidden_states(load(gemma_folder), IDS)
    monkeypatch.setattr(mx.metal, "is_available", lambda: True)
    assert mx.array_equal(hidden_states(gemma, IDS), wanted)


def test_all_hidden_states(gemma_folder):
    gemma = load(gemma_folder)
    states = hidden_states(gemma, IDS)
    assert states.shape == (4, 8, 48)
    assert states.dtype == mx.float32
    assert mx.allclose(states[0], gemma.embed_tokens(mx.array(IDS)) * 48**0.5)


def test_embedding_factor_is_rounded_as_the_weights_are(gemma_folder):
    gemma = load(gemma_folder, mx.bfloat16)
    ratio = hidden_states(gemma, IDS)[0] / gemma.embed_tokens(mx.array(IDS))
    assert mx.allclose(ratio.astype(mx.float32), mx.array(6.9375), rtol=0.01)
    # In bfloat16 mlx-lm rounds in the same way, so that its own loop gives our last state.
    assert difference(hidden_states(gemma, IDS)[-1], gemma(mx.array([IDS]))[0]) < 1e-6


def test_tokens_behind_change_nothing_in_front(gemma_folder):
    gemma = load(gemma_folder)
    alone, padded = hidden_states(gemma, IDS), hidden_states(gemma, [*IDS, 0, 0, 0])
    assert mx.allclose(padded[:, :8], alone, atol=1e-5)
    assert not mx.allclose(hidden_states(gemma, [0, *IDS])[:, 1:], alone, atol=1e-2)


def test_sliding_window_ends(changed_gemma):
    """With a window of 2 and no full attention, token 0 reaches no further than token 3."""
    folder = changed_gemma(sliding_window=2, layer_types=["sliding_attention"] * 3)
    states, other = (hidden_states(load(folder), [first, *IDS]) for first in (3, 4))
    changed = mx.abs(states - other).max(axis=-1)[-1] > 1e-4
    assert changed.tolist() == [True] * 4 + [False] * 5


def test_text_only_layout_gives_the_same(gemma_folder, changed_gemma):
    def text_only(tensors):
        kept = {k: v for k, v in tensors.items() if k.startswith("language_model.")}
        return {k.removeprefix("language_model."): v for k, v in kept.items()}

    text_config = json.loads((gemma_folder / "config.json").read_text())["text_config"]
    folder = changed_gemma(text_config, change=text_only)
    wanted = hidden_states(load(gemma_folder), IDS)
    assert mx.array_equal(hidden_states(load(folder), IDS), wanted)


def widened(tensors):
    """A Gemma of 64 channels, as 48 cannot be cut into groups of 32, with weights of its own."""
    key = mx.random.key(1)
    wide = {}
    for name, tensor in tensors.items():
        if name.startswith(LM):
            shape = [64 if size == 48 else size for size in tensor.shape]
            key, own = mx.random.split(key)
            scale = 1 if "embed" in name else shape[-1] ** -0.5
            wide[name] = mx.random.normal(shape, key=own) * scale
    return wide


@pytest.mark.parametrize(("bits", "allowed"), [(8, 0.02), (4, 0.3)])
def test_quantised_folder_is_close(changed_gemma, tmp_path, bits, allowed):
    plain = changed_gemma(change=widened, hidden_size=64)
    model, config = load_model(plain, model_config={"vocab_size": 640})
    model, config = quantize_model(model, config, 32, bits)
    quantised = tmp_path / "quantised"
    save_model(quantised, model)
    (quantised / "config.json").write_text(json.dumps(config))

    gemma = load(quantised)
    assert isinstance(gemma.embed_tokens, nn.QuantizedEmbedding)
    assert isinstance(gemma.layers[0].mlp.down_proj, nn.QuantizedLinear)
    states = hidden_states(gemma, IDS)
    assert states.dtype == mx.float32
    error = difference(states, hidden_states(load(plain), IDS))
    assert 1e-4 < error < allowed


def test_weights_are_read_when_they_are_used(gemma_folder):
    mx.clear_cache()
    before = mx.get_active_memory()
    gemma = load(gemma_folder)
    assert mx.get_active_memory() - before < 10_000
    mx.eval(gemma.parameters())
    size = sum(tensor.nbytes for _, tensor in tree_flatten(gemma.parameters()))
    assert mx.get_active_memory() - before >= size > 100_000


def test_folder_without_weights_is_an_error(changed_gemma):
    folder = changed_gemma()
    (folder / "model.safetensors").unlink()
    with pytest.raises(WeightsError, match=r"no model\*\.safetensors in this folder\n.*Gemma 3"):
        load(folder)


def test_missing_shard_is_an_error(changed_gemma):
    folder = changed_gemma()
    index = {"a": "model.safetensors", "b": "model-2.safetensors"}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": index}))
    with pytest.raises(WeightsError, match=r"are not there:\nmodel-2\.safetensors$"):
        load(folder)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{}", r"index\.json: weight_map is not a JSON object, but null"),
        ("[]", r"index\.json is not a JSON object, but \[\]"),
        ('{"weight_map": {"a": 1}}', r"are not there:\n1$"),
        ('{"weight_map": {"a": "model.safetensors"}}', r"tensors that .* are not there:\na$"),
    ],
)
def test_index_that_is_none_is_an_error(changed_gemma, text, message):
    folder = changed_gemma()
    (folder / "model.safetensors.index.json").write_text(text)
    with pytest.raises(UserError, match=message):
        load(folder)


def test_truncated_file_is_an_error(changed_gemma):
    path = changed_gemma() / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(WeightsError, match=r"not a complete safetensors file \(\d+ bytes\)"):
        load(path.parent)


def without_two(tensors):
    return {k: v for k, v in tensors.items() if not k.startswith(f"{LM}.layers.1.mlp.")}


def misshapen(tensors):
    return tensors | {f"{LM}.norm.weight": mx.zeros(47)}


def with_another(tensors):
    return tensors | {f"{LM}.layers.3.mlp.up_proj.weight": mx.zeros((96, 48))}


def unprefixed(tensors):
    return {f"model.{k}": v for k, v in tensors.items()}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            without_two,
            rf"Missing 3 parameters: {LM}\.layers\.1\.mlp\.down_proj\.weight, "
            rf"{LM}\.layers\.1\.mlp\.gate_proj\.weight and 1 more",
        ),
        (misshapen, rf"Expected shape \(48,\) but received shape \(47,\) .*{LM}\.norm\.weight"),
        (
            with_another,
            rf"Received 1 parameters not in model: {LM}\.layers\.3\.mlp\.up_proj\.weight",
        ),
        (unprefixed, r"'language_model'"),
    ],
)
def test_weights_that_do_not_fit_are_an_error(changed_gemma, change, message):
    folder = changed_gemma(change=change)
    with pytest.raises(WeightsError, match=r"its weights do not fit its config\.json:\n" + message):
        load(folder)
