"""Folders that mlx-video converted, from their real form to the outputs of the checkpoint."""

import shutil
from collections import defaultdict
from dataclasses import replace

import mlx.core as mx
import pytest

from ltx_models.audio_vae import load_vocoder
from ltx_models.check import check_own_networks
from ltx_models.checkpoint import open_checkpoint
from ltx_models.config import ConfigError
from ltx_models.converted.folder import TensorFolder
from ltx_models.converted.layout import CONNECTORS, TRANSFORMER
from ltx_models.released import LTX_2, LTX_2_3
from ltx_models.video_vae import load_video_decoder
from ltx_models.weights import WeightsError
from tests.full_size import full_size_shapes, write_empty
from tests.models.converted.folders import (
    DROPPED,
    foreign_places,
    golden,
    tensors_of,
    write_foreign,
    write_foreign_configs,
)

BLOCK = f"{TRANSFORMER}transformer_blocks."


def through_bfloat16(key: str, tensor: mx.array) -> mx.array:
    """What is left of a checkpoint's tensor: mlx-video casts the transformer's."""
    own = key.startswith(TRANSFORMER) and not key.startswith(CONNECTORS)
    return tensor.astype(mx.bfloat16) if own else tensor


@pytest.fixture(scope="module", params=["ltx2-tiny", "ltx2.3-tiny"])
def both(request, tmp_path_factory):
    """A tiny checkpoint, and the same as mlx-video converts it, with the sizes it leaves out."""
    monolith = golden(request.param)
    folder = write_foreign(tmp_path_factory.mktemp("foreign"), tensors_of(monolith))
    return monolith, replace(monolith, file=TensorFolder(folder))


def test_every_tensor_is_the_checkpoints(both):
    wanted = {key: x for key, x in tensors_of(both[0]).items() if not key.endswith(DROPPED)}
    found = tensors_of(both[1])
    assert found.keys() == wanted.keys()
    for key, tensor in wanted.items():
        tensor = through_bfloat16(key, tensor)
        assert (found[key].shape, found[key].dtype) == (tensor.shape, tensor.dtype)
        assert mx.array_equal(found[key], tensor).item()


def test_every_network_fits(both):
    check_own_networks(both[1])


def test_outputs_are_equal(both):
    decoders = [load_video_decoder(checkpoint, dtype=mx.float32) for checkpoint in both]
    channels = both[0].config["vae"]["latent_channels"]
    latent = mx.random.normal((1, channels, 2, 2, 2), key=mx.random.key(0))
    frames = [decoder(latent) for decoder in decoders]
    assert mx.array_equal(*frames).item()
    vocoders = [load_vocoder(checkpoint) for checkpoint in both]
    bins = both[0].config["audio_vae"]["preprocessing"]["mel"]["n_mel_channels"]
    mel = mx.random.normal((1, 2, 8, bins), key=mx.random.key(1))
    assert mx.array_equal(*(vocoder(mel) for vocoder in vocoders)).item()


def test_the_released_model_is_recognised_and_fits(tmp_path):
    shapes = defaultdict(dict)
    for key, shape in full_size_shapes().items():
        for network, name, axes in foreign_places(key, len(shape)):
            shapes[network][name] = tuple(shape[axis] for axis in axes)
    for network, own in shapes.items():
        (tmp_path / network).mkdir(parents=True)
        write_empty(tmp_path / network / "model.safetensors", own, {})
    write_foreign_configs(tmp_path)
    checkpoint = open_checkpoint(tmp_path)
    assert (checkpoint.version, checkpoint.config) == ((2, 3, 0), LTX_2_3)
    check_own_networks(checkpoint)


def test_the_first_generation_is_recognised(tmp_path):
    table = mx.zeros((6, 4096), mx.bfloat16)
    tensors = tensors_of(golden("ltx2-tiny"))
    tensors = {key: x for key, x in tensors.items() if not key.startswith(BLOCK)}
    tensors |= {f"{BLOCK}{i}.scale_shift_table": table for i in range(48)}
    checkpoint = open_checkpoint(write_foreign(tmp_path, tensors))
    assert (checkpoint.version, checkpoint.config) == ((2, 0), LTX_2)


def test_other_sizes_need_a_configuration(both):
    with pytest.raises(ConfigError) as error:
        open_checkpoint(both[1].path)
    assert str(error.value) == (
        f"{both[1].path}: it has no configuration of a checkpoint, and its tensors have not the "
        "sizes of a released model.\n"
        "Fetch the original file, or convert it with its metadata kept."
    )


def test_networks_that_older_conversions_lack(both, tmp_path):
    folder = shutil.copytree(both[1].path, tmp_path / "folder")
    shutil.rmtree(folder / "audio_vae/encoder")
    with pytest.raises(WeightsError) as error:
        open_checkpoint(folder)
    assert str(error.value) == (
        f"{folder}: made by mlx-video, and without audio_vae/encoder.\n"
        "Convert the original file anew, with ltx-convert"
    )


def test_strangers(both, tmp_path):
    folder = shutil.copytree(both[1].path, tmp_path / "folder")
    mx.save_safetensors(str(folder / "text_projections/more.safetensors"), {"a": mx.ones(1)})
    with pytest.raises(WeightsError, match=r"more\.safetensors: a belongs to no network of LTX-2"):
        open_checkpoint(folder)
