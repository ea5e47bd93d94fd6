"""Which tensors lie in which folder of a converted checkpoint, and how its files are named.

A component's keys are those of the checkpoint with their prefix taken off; layouts of tensors are
the checkpoint's, too. Statistics of a VAE lie beside its encoder and beside its decoder.
"""

from typing import NamedTuple

from ltx_models.weights import Parts

# Prefixes of a checkpoint's keys.
TRANSFORMER = "model.diffusion_model."
CONNECTORS = (
    f"{TRANSFORMER}video_embeddings_connector.",
    f"{TRANSFORMER}audio_embeddings_connector.",
)
PROJECTION = "text_embedding_projection."
STATISTICS = "per_channel_statistics."  # of a VAE, shared by its encoder and its decoder

CONFIG = "config.json"
INDEX = "model.safetensors.index.json"
SINGLE = "model.safetensors"
MODEL_TYPE = "ltx-2"  # in the folder's own config.json
DIFFUSERS = "model_index.json"  # of folders that have our names, and another layout
UPSCALERS, LORAS = "upscalers", "lora"  # folders of whole files, copied as they are
QUANTIZATION = "quantization"  # in transformer/config.json, as mlx-lm writes it
QUANTIZATION_TWIN = "quantization_config"  # the same again, as transformers reads it
TRANSFORMER_FOLDER = "transformer"


class Component(NamedTuple):
    """One network's folder."""

    folder: str
    section: str | None  # of the configuration, which its config.json holds; None: an empty one
    parts: Parts  # a prefix in the folder's files, and the one that its keys have in a checkpoint


def _coder(vae: str, part: str) -> Component:
    return Component(
        f"{vae}/{part}", vae, {"": f"{vae}.{part}.", STATISTICS: f"{vae}.{STATISTICS}"}
    )


COMPONENTS = (
    Component(TRANSFORMER_FOLDER, "transformer", {"": TRANSFORMER}),
    _coder("vae", "encoder"),
    _coder("vae", "decoder"),
    _coder("audio_vae", "encoder"),
    _coder("audio_vae", "decoder"),
    Component("vocoder", "vocoder", {"": "vocoder."}),
    Component(
        "text_projections",
        None,
        {
            PROJECTION: PROJECTION,
            **{prefix.removeprefix(TRANSFORMER): prefix for prefix in CONNECTORS},
        },
    ),
)


def places(key: str) -> list[tuple[Component, str]]:
    """Where a checkpoint's key lies: components, and its name in their files; none for a stranger.

    The longest prefix decides, so that the connectors are no part of the transformer.
    """
    found = [
        (len(outside), component, inside + key.removeprefix(outside))
        for component in COMPONENTS
        for inside, outside in component.parts.items()
        if key.startswith(outside)
    ]
    longest = max((length for length, _, _ in found), default=0)
    return [(component, name) for length, component, name in found if length == longest]


def checkpoint_key(component: Component, name: str) -> str | None:
    """The key that a name in a component's files has in a checkpoint; None for a stranger."""
    inside = max((p for p in component.parts if name.startswith(p)), key=len, default=None)
    return None if inside is None else component.parts[inside] + name.removeprefix(inside)


def shard_name(number: int, count: int) -> str:
    """The name of one of ``count`` files of a component, counted from 1."""
    return SINGLE if count == 1 else f"model-{number:05}-of-{count:05}.safetensors"
