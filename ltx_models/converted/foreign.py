"""Folders that Blaizzy's mlx-video converts LTX-2 to (``prince-canuma/LTX-2*``).

One network a folder, as in ours, but with other names, with convolutions in MLX's layout, and
without the checkpoint's configuration: the sizes of the released models are recognised.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ltx_models.converted.layout import (
    COMPONENTS,
    PROJECTION,
    TRANSFORMER_FOLDER,
    Component,
    checkpoint_key,
)

MODEL_TYPE = "ltx av model"  # in the configuration of the transformer's folder
TEXT, VOCODER, VIDEO_DECODER = "text_projections", "vocoder", "vae/decoder"
# Names inside attention, feed-forward and timestep embedding, and the checkpoint's.
LAYERS = (
    (re.compile(r"\bto_out\.(?!0\.)"), "to_out.0."),
    (re.compile(r"ff\.proj_in\."), "ff.net.0.proj."),
    (re.compile(r"ff\.proj_out\."), "ff.net.2."),
    (re.compile(r"\blinear([12])\."), r"linear_\1."),
)
# The decoder's convolutions are one level deeper, but for the upsampling ones.
WRAPPED = re.compile(r"\b(conv\w+)\.conv\.conv\.")
STATISTICS = re.compile(r"^per_channel_statistics\.(mean|std)(_of_means)?$")
# PyTorch's axes among MLX's, of a convolution's weight by its number of axes.
CONVOLUTION = {3: (0, 2, 1), 4: (0, 3, 1, 2), 5: (0, 4, 1, 2, 3)}
TRANSPOSED = (2, 0, 1)  # of a transposed convolution in one dimension


def is_foreign(config: Mapping[str, Any]) -> bool:
    """Whether a transformer's configuration is one that mlx-video writes."""
    return config.get("model_type") == MODEL_TYPE


def foreign_key(component: Component, name: str) -> str | None:
    """The key that a name in a component's files has in a checkpoint; None for a stranger."""
    name = STATISTICS.sub(r"per_channel_statistics.\1-of-means", name)
    if component.folder == VIDEO_DECODER:
        name = WRAPPED.sub(r"\1.conv.", name)
    if component.folder in (TRANSFORMER_FOLDER, TEXT):
        for pattern, ours in LAYERS:
            name = pattern.sub(ours, name)
    if component.folder == TEXT and "aggregate_embed." in name:
        name = PROJECTION + name.removeprefix(PROJECTION)
    return checkpoint_key(component, name)


def foreign_axes(component: Component, name: str, num_axes: int) -> tuple[int, ...] | None:
    """In which order a tensor's axes are the checkpoint's; None where they are already."""
    if not name.endswith(".weight"):
        return None
    if component.folder == VOCODER and num_axes == len(TRANSPOSED):
        return TRANSPOSED if re.search(r"\bups\.", name) else CONVOLUTION[num_axes]
    convolution = component.folder.startswith(("vae/", "audio_vae/")) and "conv" in name
    return CONVOLUTION.get(num_axes) if convolution else None


def missing_folders(folder: Path) -> list[str]:
    """The networks that a folder of this layout does not have, as older ones lack an encoder."""
    folders = [component.folder for component in COMPONENTS]
    return [name for name in folders if not any((folder / name).glob("*.safetensors"))]
