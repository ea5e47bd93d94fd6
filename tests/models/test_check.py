"""One row a network: what is wrong anywhere in a run's files is told from their headers."""

import json
import shutil
import time
from pathlib import Path

import mlx.core as mx
import pytest

from ltx_models.check import check_networks
from ltx_models.checkpoint import CONNECTORS, TRANSFORMER, open_checkpoint
from ltx_models.errors import UserError
from ltx_models.released import LTX_2_3
from ltx_models.tiny import full_shapes
from ltx_models.weights import TensorFile
from tests.bench.open_checkpoint import write_empty

UPSCALER = "ltx-2.3-spatial-upscaler-x2-1.1.safetensors"
NETWORKS = {
    "transformer, picture": f"{TRANSFORMER}transformer_blocks.1.ff.net.2.weight",
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


def check(folder: Path, *, upscaler: str | None = UPSCALER) -> None:
    checkpoint = open_checkpoint(folder / "ltx-2.3-tiny.safetensors")
    check_networks(
        checkpoint,
        gemma=folder / "gemma-3-tiny",
        upscaler=None if upscaler is None else folder / upscaler,
    )


@pytest.fixture
def edited(tiny, tmp_path):
    """Copy the stand-in with changed tensors in one of its files; None takes a tensor out."""

    def edit(changes: dict[str, mx.array | None], *, name: str = "ltx-2.3-tiny.safetensors"):
        for path in tiny.iterdir():
            if path.name != name:
                (tmp_path / path.name).symlink_to(path)
        file = TensorFile(tiny / name)
        tensors = {**file.tensors("", file.infos), **changes}
        kept = {key: value for key, value in tensors.items() if value is not None}
        mx.save_safetensors(str(tmp_path / name), kept, file.metadata)
        return tmp_path

    return edit


def test_files_that_fit(tiny):
    check(tiny)
    check(tiny, upscaler=None)
    check(tiny, upscaler="ltx-2.3-spatial-upscaler-x1.5-1.0.safetensors")


@pytest.mark.parametrize("key", NETWORKS.values(), ids=NETWORKS)
def test_a_tensor_that_is_removed_renamed_misshapen_or_added(edited, key):
    odd = mx.zeros((1, 2, 3, 4))
    for changes, told in [
        ({key: None}, f"missing: {key}"),
        ({key: odd}, f"{key}: (1, 2, 3, 4) in the file, "),
        ({f"{key}_2": odd}, f"unknown: {key}_2"),
        ({key: None, f"{key}_2": odd}, f"unknown: {key}_2"),
    ]:
        with pytest.raises(UserError) as error:
            check(edited(changes))
        assert told in str(error.value)
        for path in edited.__closure__ or ():  # the folder is used again
            if isinstance(path.cell_contents, Path) and path.cell_contents.name != "tiny":
                pass
