"""What is wrong anywhere in a run's files is told from their headers; one row a network."""

import json
from pathlib import Path

import mlx.core as mx
import pytest

from ltx_models.check import check_networks
from ltx_models.checkpoint import open_checkpoint
from ltx_models.converted.layout import CONNECTORS, TRANSFORMER
from ltx_models.errors import UserError
from ltx_models.upsampler import LatentUpsampler, UpsamplerConfig
from ltx_models.weights import TensorFile, torch_shapes
from tests.full_size import write_empty

CHECKPOINT = "ltx-2.3-tiny.safetensors"
UPSCALER = "ltx-2.3-spatial-upscaler-x2-1.1.safetensors"
KEYS = {
    "transformer": f"{TRANSFORMER}transformer_blocks.1.ff.net.2.weight",
    "transformer, sound": f"{TRANSFORMER}transformer_blocks.1.audio_attn2.q_norm.weight",
    "connector": f"{CONNECTORS[0]}transformer_1d_blocks.0.attn1.to_k.bias",
    "connector, sound": f"{CONNECTORS[1]}learnable_registers",
    "projection": "text_embedding_projection.audio_aggregate_embed.bias",
    "video encoder": "vae.encoder.conv_in.conv.weight",
    "video decoder": "vae.decoder.conv_out.conv.bias",
    "video statistics": "vae.per_channel_statistics.std-of-means",
    "audio encoder": "audio_vae.encoder.conv_out.conv.weight",
    "audio decoder": "audio_vae.decoder.conv_in.conv.weight",
    "audio statistics": "audio_vae.per_channel_statistics.mean-of-means",
    "vocoder": "vocoder.vocoder.conv_pre.weight",
    "bandwidth extension": "vocoder.bwe_generator.ups.1.bias",
}
ODD = (1, 2, 3, 4, 5, 6)


def check(folder: Path, *, upscaler: str | None = UPSCALER) -> None:
    check_networks(
        open_checkpoint(folder / CHECKPOINT),
        gemma=folder / "gemma-3-tiny",
        upscaler=None if upscaler is None else folder / upscaler,
    )


@pytest.fixture
def edited(tiny, tmp_path):
    """The stand-in with changed shapes in one of its files; None takes a tensor out."""

    def edit(changes, *, name=CHECKPOINT, metadata=None):
        file = TensorFile(tiny / name)
        for path in tiny.iterdir():
            (tmp_path / path.name).symlink_to(path)
        (tmp_path / name).unlink()
        shapes = {key: info.shape for key, info in file.infos.items()} | changes
        kept = {key: shape for key, shape in shapes.items() if shape is not None}
        write_empty(tmp_path / name, kept, metadata or file.metadata)
        return tmp_path

    return edit


@pytest.mark.parametrize("upscaler", [None, UPSCALER, UPSCALER.replace("x2-1.1", "x1.5-1.0")])
def test_files_that_fit(tiny, upscaler):
    check(tiny, upscaler=upscaler)


@pytest.mark.parametrize("key", KEYS.values(), ids=KEYS)
@pytest.mark.parametrize(
    ("suffix", "shape", "told"),
    [
        ("", None, "missing: {}"),
        ("", ODD, "{}: (1, 2, 3, 4, 5, 6) in the file, "),
        ("_2", ODD, "unknown: {}_2"),
    ],
    ids=["removed", "misshapen", "added"],
)
def test_a_tensor_of_the_checkpoint(edited, key, suffix, shape, told):
    with pytest.raises(UserError) as error:
        check(edited({key + suffix: shape}))
    assert told.format(key) in str(error.value)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"res_blocks.0.norm2.bias": None}, "missing: res_blocks.0.norm2.bias"),
        ({"final_conv.weight": ODD}, "final_conv.weight: (1, 2, 3, 4, 5, 6) in the file"),
        ({"final_conv.weights": ODD}, "unknown: final_conv.weights"),
    ],
)
def test_a_tensor_of_the_upscaler(edited, changes, told):
    with pytest.raises(UserError) as error:
        check(edited(changes, name=UPSCALER))
    assert told in str(error.value)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"in_channels": 8}, "it takes latents of 8 channels, but those of "),
        (
            {"spatial_scale": 4.0, "rational_resampler": True},
            "it scales by 4.0; 1.5 or 2.0 is wanted here",
        ),
        (
            {"temporal_upsample": True, "spatial_upsample": False},
            "it adds frames; a spatial upscaler is wanted here",
        ),
    ],
)
def test_an_upscaler_that_is_not_of_this_checkpoint(tiny, tmp_path, changes, told):
    config = json.loads(TensorFile(tiny / UPSCALER).metadata["config"]) | changes
    shapes = torch_shapes(LatentUpsampler(UpsamplerConfig.read(config)))
    path = tmp_path / "other.safetensors"
    write_empty(path, shapes, {"config": json.dumps(config)})
    with pytest.raises(UserError) as error:
        check(tiny, upscaler=str(path))
    assert str(error.value).startswith(f"{path}: {told}")


def without(name):
    return lambda folder: (folder / name).unlink()


def written(name, text):
    return lambda folder: (folder / name).write_text(text)


def narrow(folder):
    config = json.loads((folder / "config.json").read_text())
    config["text_config"]["num_hidden_layers"] = 2
    (folder / "config.json").write_text(json.dumps(config))


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (without("config.json"), "no config.json in this folder"),
        (written("config.json", "[]"), "is not a JSON object, but []"),
        (narrow, "its text projection takes 192 features a token, but this Gemma gives 144"),
        (without("tokenizer.json"), "no tokenizer.json"),
        (written("tokenizer.json", '{"model": {'), "not a whole tokenizer (11 bytes)"),
        (without("model.safetensors"), "no model*.safetensors in this folder"),
        (written("model.safetensors", "torn"), "not a complete safetensors file (4 bytes)"),
        (
            written("model.safetensors.index.json", '{"weight_map": {"a": "model-2"}}'),
            "files that its index names are not there:\nmodel-2",
        ),
    ],
)
def test_the_text_encoder(tiny, tmp_path, change, told):
    gemma = tmp_path / "gemma"
    gemma.mkdir()
    for path in (tiny / "gemma-3-tiny").iterdir():
        (gemma / path.name).write_bytes(path.read_bytes())
    change(gemma)
    with pytest.raises(UserError) as error:
        check_networks(open_checkpoint(tiny / CHECKPOINT), gemma=gemma, upscaler=None)
    assert told in str(error.value)


def test_no_weight_is_read(tiny):
    mx.clear_cache()
    before = mx.get_active_memory()
    mx.reset_peak_memory()
    check(tiny)
    assert mx.get_peak_memory() - before < 100_000  # of 16 MB
