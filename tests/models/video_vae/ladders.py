"""Small video VAEs for tests, and a way to make them local."""

import mlx.core as mx
import mlx.nn as nn
from mlx.utils import tree_map_with_path

from ltx_models.released import LTX_2, LTX_2_3
from ltx_models.video_vae import VideoVAEConfig

RELEASED = {"LTX-2": LTX_2["vae"], "LTX-2.3": LTX_2_3["vae"]}

# Two frames and eight pixels a latent.
SMALL = {
    "latent_channels": 8,
    "decoder_base_channels": 4,
    "patch_size": 2,
    "timestep_conditioning": False,
    "spatial_padding_mode": "zeros",
    "encoder_blocks": [["compress_space_res", {}], ["compress_all_res", {"multiplier": 1}]],
    "decoder_blocks": [["compress_space", {}], ["compress_all", {"multiplier": 2}]],
}


def config(base=SMALL, **changes) -> VideoVAEConfig:
    return VideoVAEConfig.read({**base, **changes})


def narrow(base, **changes) -> VideoVAEConfig:
    """A released ladder with 4 channels at its ends and one layer a stack."""
    blocks = {
        key: [
            [name, {**params, "num_layers": 1} if name == "res_x" else params]
            for name, params in base[key]
        ]
        for key in ("encoder_blocks", "decoder_blocks")
    }
    sizes = {"latent_channels": 4, "decoder_base_channels": 4}
    return VideoVAEConfig.read({**base, **sizes, **blocks, **changes})


def make_local(module: nn.Module, *, tap: int) -> None:
    """Leave of each kernel its tap in time and its middle in space: a latent sees only itself."""
    mask = mx.zeros((3, 3, 3, 1))
    mask[tap, 1, 1] = 1

    def cut(path: str, value: mx.array) -> mx.array:
        return value * mask if path.endswith("conv.weight") else value

    module.update(tree_map_with_path(cut, module.parameters()))


def randomise_statistics(module: nn.Module) -> None:
    statistics = module.per_channel_statistics
    size = statistics["mean-of-means"].shape
    statistics["mean-of-means"] = mx.random.normal(size)
    statistics["std-of-means"] = mx.random.uniform(0.5, 2, size)
