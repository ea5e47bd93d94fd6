import mlx.core as mx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mlx.utils import tree_flatten, tree_map_with_path

from ltx_models.converted.layout import CONNECTORS
from ltx_models.released import LTX_2, LTX_2_3
from ltx_models.text_encoder.connector import Connector, connector_rope, load_connectors
from ltx_models.transformer.config import ConnectorSize, TransformerConfig
from ltx_models.weights import WeightsError

SIZE = ConnectorSize(num_heads=2, head_dim=4, num_layers=2)
CONFIG = TransformerConfig(connector_positional_embedding_max_pos=(64.0,))


def random_connector(*, gated: bool = False) -> Connector:
    mx.random.seed(0)
    connector = Connector(
        CONFIG.model_copy(update={"connector_apply_gated_attention": gated}), SIZE
    )
    connector.learnable_registers = mx.random.normal((128, SIZE.dim))
    return connector


def idle_connector() -> Connector:
    """Its blocks add nothing, so that what goes in can be seen in what comes out."""
    connector = random_connector()
    connector.update(
        tree_map_with_path(
            lambda path, x: mx.zeros_like(x) if "to_out" in path or "net.2" in path else x,
            connector.parameters(),
        )
    )
    return connector


IDLE = idle_connector()


@settings(deadline=None)
@given(num_tokens=st.integers(1, 139), length=st.integers(140, 300))
def test_registers_fill_the_places_behind_the_tokens(num_tokens, length):
    features = mx.random.normal((1, num_tokens, 8), key=mx.random.key(num_tokens))
    context = IDLE(features, length=length)
    assert context.shape == (1, length, 8)
    rms = mx.fast.rms_norm
    assert mx.allclose(context[:, :num_tokens], rms(features, None, 1e-6), atol=1e-5)
    for place in {num_tokens, length - 1}:
        register = IDLE.learnable_registers[place % 128]
        assert mx.allclose(context[0, place], rms(register, None, 1e-6), atol=1e-5)


@pytest.mark.parametrize("gated", [False, True])
def test_batch_equals_one_by_one(gated):
    connector = random_connector(gated=gated)
    features = mx.random.normal((2, 5, 8), key=mx.random.key(1))
    both = connector(features, length=128)
    for i in range(2):
        assert mx.allclose(both[i : i + 1], connector(features[i : i + 1], length=128), atol=1e-5)


def test_exactly_full_context_has_no_register():
    features = mx.random.normal((1, 128, 8), key=mx.random.key(2))
    assert mx.allclose(
        IDLE(features, length=128), mx.fast.rms_norm(features, None, 1e-6), atol=1e-5
    )


def test_every_place_attends_to_all():
    connector = random_connector()
    features = mx.random.normal((1, 5, 8), key=mx.random.key(1))
    other = mx.concatenate([features[:, :4], -features[:, 4:]], axis=1)
    changed = mx.abs(connector(features, length=128) - connector(other, length=128)).max(axis=-1)
    assert (changed > 1e-5).all()


def test_computes_in_the_type_of_its_weights():
    connector = random_connector(gated=True)
    connector.set_dtype(mx.bfloat16)
    assert connector(mx.ones((1, 3, 8)), length=128).dtype == mx.bfloat16


def test_too_many_tokens_are_an_error():
    with pytest.raises(ValueError, match="129 tokens do not fit a context of 128"):
        random_connector()(mx.ones((1, 129, 8)), length=128)


def test_positions_are_plain_indices():
    cos, sin = connector_rope(CONFIG, SIZE, length=64)
    assert cos.shape == sin.shape == (1, 2, 64, 2)
    # Lowest frequency pi / 2, times 2 place / 64 - 1: from -pi / 2 to 0 in the middle.
    assert mx.allclose(sin[0, 0, 0, 0], mx.array(-1.0))
    assert mx.allclose(cos[0, 0, 32, 0], mx.array(1.0))


@pytest.mark.parametrize(
    ("released", "video", "audio"),
    [(LTX_2, 354_470_400, 354_470_400), (LTX_2_3, 1_612_546_304, 403_620_096)],
)
def test_released_sizes(released, video, audio):
    config = TransformerConfig.read(released["transformer"])
    for size, wanted in ((config.connector, video), (config.audio_connector, audio)):
        parameters = tree_flatten(Connector(config, size).parameters())  # lazy: never made
        assert sum(tensor.size for _, tensor in parameters) == wanted


def test_loading_takes_the_connectors_keys_only(checkpoint):
    connectors = load_connectors(checkpoint, dtype=mx.float32)
    for connector, prefix in zip(connectors, CONNECTORS, strict=True):
        found = dict(tree_flatten(connector.parameters()))
        assert found.keys() == set(checkpoint.file.keys(prefix))
        assert {tensor.dtype for tensor in found.values()} == {mx.float32}


def test_weights_go_with_the_connectors(checkpoint):
    """An array that the open checkpoint kept would stay in memory once it has been read."""
    before = mx.get_active_memory()
    connectors = load_connectors(checkpoint, dtype=mx.float32)
    mx.eval([connector.parameters() for connector in connectors])
    assert mx.get_active_memory() - before > 200_000
    del connectors
    assert mx.get_active_memory() - before < 1000


def test_spare_connector_key_is_an_error(changed_checkpoint):
    spare = {f"{CONNECTORS[1]}transformer_1d_blocks.0.attn2.to_q.weight": mx.zeros((4, 4))}
    checkpoint = changed_checkpoint(lambda tensors: tensors | spare)
    with pytest.raises(
        WeightsError, match=rf"unknown: {CONNECTORS[1]}transformer_1d_blocks\.0\.attn2\.to_q"
    ):
        load_connectors(checkpoint, dtype=mx.float32)


def test_connector_of_a_model_without_sound_is_an_error(changed_checkpoint):
    old = "model.diffusion_model.embeddings_connector."
    checkpoint = changed_checkpoint(
        lambda tensors: {k.replace(CONNECTORS[0], old): v for k, v in tensors.items()}
    )
    with pytest.raises(WeightsError, match=r"embeddings_connector\.\*: a model without sound\n"):
        load_connectors(checkpoint, dtype=mx.float32)
