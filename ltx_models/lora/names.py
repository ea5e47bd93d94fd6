"""Which layer of ours a file's name for a module means (spec/lora_files.md 4.3).

Every layer is listed under its own name and under those that other programs have for it. A name is
looked up in that list and never taken apart: "audio_attn1_to_out_0" has dots at places that only
the list tells.
"""

import re
from collections.abc import Iterable, Mapping
from functools import cache
from typing import NamedTuple

import mlx.nn as nn
from mlx.utils import tree_flatten

from ltx_models.converted.layout import CONNECTORS, PROJECTION, TRANSFORMER
from ltx_models.released import LTX_2, LTX_2_3
from ltx_models.text_encoder.connector import Connector
from ltx_models.transformer.config import TransformerConfig
from ltx_models.transformer.model import Transformer

# Names of diffusers for ours, whole parts of a path.
DIFFUSERS = {
    "patchify_proj": "proj_in",
    "audio_patchify_proj": "audio_proj_in",
    "adaln_single": "time_embed",
    "audio_adaln_single": "audio_time_embed",
    "prompt_adaln_single": "prompt_adaln",
    "audio_prompt_adaln_single": "audio_prompt_adaln",
    "av_ca_video_scale_shift_adaln_single": "av_cross_attn_video_scale_shift",
    "av_ca_audio_scale_shift_adaln_single": "av_cross_attn_audio_scale_shift",
    "av_ca_a2v_gate_adaln_single": "av_cross_attn_video_a2v_gate",
    "av_ca_v2a_gate_adaln_single": "av_cross_attn_audio_v2a_gate",
    "scale_shift_table_a2v_ca_video": "video_a2v_cross_attn_scale_shift_table",
    "scale_shift_table_a2v_ca_audio": "audio_a2v_cross_attn_scale_shift_table",
    "q_norm": "norm_q",
    "k_norm": "norm_k",
    "video_embeddings_connector": "connectors.video_connector",
    "audio_embeddings_connector": "connectors.audio_connector",
    "transformer_1d_blocks": "transformer_blocks",
    "text_embedding_projection": "connectors",
    "aggregate_embed": "text_proj_in",
    "video_aggregate_embed": "video_text_proj_in",
    "audio_aggregate_embed": "audio_text_proj_in",
}
PORTS = {  # of programs in MLX
    r"\.to_out\.0$": ".to_out",
    r"ff\.net\.0\.proj$": "ff.proj_in",
    r"ff\.net\.2$": "ff.proj_out",
    r"\.linear_(\d)$": r".linear\1",
}
# Modules of the text path, beside the transformer's own: as in a checkpoint.
TEXT_PATH = (*(name.removeprefix(TRANSFORMER) for name in CONNECTORS), PROJECTION)


class Names(NamedTuple):
    """Layers by the names that files have for them."""

    paths: frozenset[str]  # ours
    others: Mapping[str, frozenset[str]]  # with dots, of other programs
    flat: Mapping[str, frozenset[str]]  # with underscores in place of dots, of all programs

    def find(self, name: str) -> frozenset[str]:
        """The layers that a name can mean: one, none, or several where it is ambiguous."""
        if name in self.paths:
            return frozenset((name,))
        return self.others.get(name) or self.flat.get(name) or frozenset()


def list_names(paths: Iterable[str]) -> Names:
    """Names for some layers, given by their paths."""
    paths = frozenset(paths)
    others: dict[str, set[str]] = {}
    flat: dict[str, set[str]] = {}
    for path in paths:
        for name in _spellings(path):
            others.setdefault(name, set()).add(path)
            flat.setdefault(name.replace(".", "_"), set()).add(path)
    return Names(paths, _frozen(others), _frozen(flat))


def model_names(config: TransformerConfig) -> Names:
    """Names for all that an LTX-2 can have changed: transformer, connectors, text projection."""
    return list_names([*places(Transformer(config)), *_text_paths(config)])


@cache
def released_names() -> Names:
    """Names for all that the released models can have changed, LTX-2 and LTX-2.3."""
    configs = [
        TransformerConfig.read(released["transformer"], at="config.transformer")
        for released in (LTX_2, LTX_2_3)
    ]
    return list_names(path for config in configs for path in model_names(config).paths)


def places(module: nn.Module) -> set[str]:
    """Paths of what has weights: linear layers, norms, and tables by their own names."""
    return {
        re.sub(r"\.(weight|bias|scales|biases)$", "", name)
        for name, _ in tree_flatten(module.parameters())
    }


def in_text_path(path: str) -> bool:
    """Whether a layer is of the connectors or the text projection, not of the transformer."""
    return path.startswith(TEXT_PATH)


def _text_paths(config: TransformerConfig) -> list[str]:
    video, audio, projection = TEXT_PATH
    found = [
        *(video + path for path in places(Connector(config, config.connector))),
        *(audio + path for path in places(Connector(config, config.audio_connector))),
    ]
    streams = ("",) if config.feature_version == "V1" else ("video_", "audio_")
    return [*found, *(f"{projection}{stream}aggregate_embed" for stream in streams)]


def diffusers_name(path: str) -> str:
    """A layer as diffusers names it, without the "transformer." in front of most."""
    return ".".join(DIFFUSERS.get(part, part) for part in path.split("."))


def _spellings(path: str) -> set[str]:
    found = {path, diffusers_name(path)}
    if in_text_path(path):
        found.add(f"connectors.{path}")
    for name in tuple(found):
        for pattern, other in PORTS.items():
            name = re.sub(pattern, other, name)
        found.add(name)
    return found


def _frozen(found: Mapping[str, set[str]]) -> dict[str, frozenset[str]]:
    return {name: frozenset(paths) for name, paths in found.items()}
