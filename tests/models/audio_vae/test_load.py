"""Networks from checkpoint files, and their sizes."""

import json
from pathlib import Path

import mlx.core as mx
import mlx.nn as nn
import pytest
from mlx.utils import tree_flatten, tree_map

from ltx_models.audio_vae import (
    AudioDecoder,
    AudioEncoder,
    ExtendedVocoder,
    HiFiGAN,
    load_audio_decoder,
    load_audio_encoder,
    load_vocoder,
)
from ltx_models.audio_vae.config import AudioVAEConfig, ExtendedVocoderConfig, HiFiGANConfig
from ltx_models.checkpoint import Checkpoint, open_checkpoint
from ltx_models.config import ConfigError
from ltx_models.released import LTX_2, LTX_2_3
from ltx_models.weights import WeightsError
from tests.models.audio_vae.sizes import AUDIO_VAE, EXTENDED, HIFIGAN, audio_vae, extended, hifigan

INVERSE = "vocoder.mel_stft.stft_fn.inverse_basis"


def torch_tensors(module: nn.Module, prefix: str) -> dict[str, mx.array]:
    """Random bfloat16 tensors for the module, in PyTorch's layout, under their file names."""
    mx.random.seed(0)
    module.update(tree_map(lambda x: mx.random.normal(x.shape), module.parameters()))
    module.set_dtype(mx.bfloat16)
    found = dict(tree_flatten(module.parameters()))
    for name, layer in module.named_modules():
        key = f"{name}.weight"
        if isinstance(layer, nn.ConvTranspose1d):
            found[key] = found[key].transpose(2, 0, 1)
        elif isinstance(layer, nn.Conv1d | nn.Conv2d):
            found[key] = found[key].moveaxis(-1, 1)
    statistics = "per_channel_statistics."
    return {
        ("audio_vae." if key.startswith(statistics) else prefix) + key: mx.contiguous(tensor)
        for key, tensor in found.items()
    }


def save(folder: Path, tensors: dict[str, mx.array], vocoder: dict) -> Checkpoint:
    config = {"audio_vae": audio_vae(), "vocoder": vocoder}
    path = folder / "tiny.safetensors"
    mx.save_safetensors(str(path), tensors, {"config": json.dumps(config)})
    return open_checkpoint(path)


def same_weights(loaded: nn.Module, original: nn.Module) -> bool:
    wanted = dict(tree_flatten(original.parameters()))
    found = dict(tree_flatten(loaded.parameters()))
    return wanted.keys() == found.keys() and all(
        mx.array_equal(found[key], wanted[key].astype(found[key].dtype)) for key in wanted
    )


@pytest.mark.parametrize("dtype", [mx.float32, mx.bfloat16])
@pytest.mark.parametrize(
    ("network", "prefix", "load"),
    [
        (AudioEncoder, "audio_vae.encoder.", load_audio_encoder),
        (AudioDecoder, "audio_vae.decoder.", load_audio_decoder),
    ],
)
def test_audio_vae(tmp_path, network, prefix, load, dtype):
    original = network(AUDIO_VAE)
    tensors = torch_tensors(original, prefix)
    # An integer tensor cannot be read at all, so that touching other networks would fail.
    tensors["vocoder.other"] = mx.zeros(1, dtype=mx.int32)
    tensors["audio_vae.per_channel_statistics.mean-of-stds"] = mx.zeros(1, dtype=mx.int32)
    loaded = load(save(tmp_path, tensors, hifigan()), dtype=dtype)
    assert same_weights(loaded, original)
    assert loaded.conv_in.conv.weight.dtype == dtype


@pytest.mark.parametrize(
    ("original", "config"),
    [(HiFiGAN(HIFIGAN), hifigan()), (ExtendedVocoder(EXTENDED), extended())],
    ids=["hifigan", "extended"],
)
def test_vocoder_is_float32_from_bfloat16(tmp_path, original, config):
    tensors = torch_tensors(original, "vocoder.")
    tensors["audio_vae.decoder.other"] = mx.zeros(1, dtype=mx.int32)
    tensors[INVERSE] = mx.zeros(1, dtype=mx.int32)
    loaded = load_vocoder(save(tmp_path, tensors, config))
    assert type(loaded) is type(original)
    assert same_weights(loaded, original)
    assert {value.dtype for _, value in tree_flatten(loaded.parameters())} == {mx.float32}
    assert loaded(mx.zeros((1, 2, 1, 64), dtype=mx.bfloat16)).dtype == mx.float32


def test_missing_tensor(tmp_path):
    tensors = torch_tensors(HiFiGAN(HIFIGAN), "vocoder.")
    del tensors["vocoder.ups.1.bias"]
    with pytest.raises(WeightsError, match=r"fit HiFiGAN:\nmissing: vocoder\.ups\.1\.bias"):
        load_vocoder(save(tmp_path, tensors, hifigan()))


def test_prefix_is_stripped_once(tmp_path):
    tensors = torch_tensors(ExtendedVocoder(EXTENDED), "vocoder.")
    tensors["vocoder.conv_pre.bias"] = tensors.pop("vocoder.vocoder.conv_pre.bias")
    name = r"vocoder\.conv_pre\.bias"
    message = rf"missing: vocoder\.{name} \(the file has {name}\)"
    with pytest.raises(WeightsError, match=message):
        load_vocoder(save(tmp_path, tensors, extended()))


def test_missing_section(tmp_path):
    path = tmp_path / "tiny.safetensors"
    mx.save_safetensors(str(path), {"vocoder.conv_pre.bias": mx.zeros(1)}, {"config": "{}"})
    checkpoint = open_checkpoint(path)
    with pytest.raises(ConfigError, match="its configuration has no section 'vocoder'"):
        load_vocoder(checkpoint)
    with pytest.raises(ConfigError, match="its configuration has no section 'audio_vae'"):
        load_audio_decoder(checkpoint, dtype=mx.float32)


def num_weights(module: nn.Module) -> int:
    """Without what PyTorch calls buffers: statistics, filters and Fourier bases."""
    buffers = ("per_channel_statistics", "filter", "mel_stft")
    weights = tree_flatten(module.parameters())
    return sum(value.size for key, value in weights if not any(name in key for name in buffers))


@pytest.mark.parametrize("released", [LTX_2, LTX_2_3], ids=["2", "2.3"])
def test_released_audio_vae_size(released):
    config = AudioVAEConfig.read(released["audio_vae"])
    mx.reset_peak_memory()
    before = mx.get_active_memory()
    encoder, decoder = AudioEncoder(config), AudioDecoder(config)
    assert num_weights(encoder) == 21_333_008
    assert num_weights(decoder) == 31_915_138
    assert encoder.per_channel_statistics["std-of-means"].shape == (128,)
    assert mx.get_peak_memory() - before < 100_000


def test_released_vocoder_sizes():
    mx.reset_peak_memory()
    before = mx.get_active_memory()
    hifigan = HiFiGAN(HiFiGANConfig.read(LTX_2["vocoder"]))
    vocoder = ExtendedVocoder(ExtendedVocoderConfig.read(LTX_2_3["vocoder"]))
    assert num_weights(hifigan) == 55_592_802
    assert num_weights(vocoder) == 128_537_448
    # 1227 tensors in the released file, one of them the inverse basis.
    assert len(tree_flatten(vocoder.parameters())) == 1226
    assert mx.get_peak_memory() - before < 100_000
