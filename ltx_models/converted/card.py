"""The model card of a converted folder, with the front matter that the hub reads."""

from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from ltx_models.converted.layout import LORAS, UPSCALERS
from ltx_models.converted.plan import size_text
from ltx_models.quantize import Quantization

BASE_MODELS: Mapping[tuple[int, ...], str] = {
    (2, 0): "Lightricks/LTX-2",
    (2, 3): "Lightricks/LTX-2.3",
}
LICENSE = {
    "license": "other",
    "license_name": "ltx-2-community-license-agreement",
    "license_link": "https://github.com/Lightricks/LTX-2/blob/main/LICENSE",
}
TAGS = ["mlx", "ltx-2", "text-to-video", "audio-video"]


def model_card(
    about: Mapping[str, Any],
    *,
    version: tuple[int, ...],
    sizes: Mapping[str, int],
    how: Quantization | None,
    counts: tuple[int, int],
) -> str:
    """README.md of a folder whose config.json says ``about``; ``sizes`` in bytes by folder.

    ``counts`` are the transformer's quantised layers and its tensors that stay as they were.
    """
    front: dict[str, Any] = {
        **LICENSE,
        "library_name": "mlx",
        "pipeline_tag": "text-to-video",
        "tags": TAGS,
    }
    if base := BASE_MODELS.get(version[:2]):
        front["base_model"] = base
    name = f"LTX-{'.'.join(map(str, version[:2]))}"
    title = " ".join(filter(None, [name, about.get("variant"), _bits(how), "for MLX"]))
    done = [f"- made from `{about['source']}` by `ltx-convert` of ltx-mlx {about['ltx_mlx']}"]
    done += [_fused(lora) for lora in about["loras"]]
    if how is not None:
        done.append(
            f"- {counts[0]} linear layers of the transformer's blocks quantised: {how}; its other "
            f"{counts[1]} tensors and all other networks are as they were"
        )
    if about["compensation_rank"] is not None:
        done.append(
            f"- beside each quantised layer an adapter of rank {about['compensation_rank']} that "
            "makes up for part of the error"
        )
    rows = [f"| `{folder}/` | {size_text(size)} |" for folder, size in sizes.items()]
    return "\n".join(
        [
            "---",
            yaml.safe_dump(front, sort_keys=True).strip(),
            "---",
            "",
            f"# {title}",
            "",
            *done,
            "",
            "The weights stay under the licence of the model that they were made from, which is "
            f"[linked here]({LICENSE['license_link']}).",
            "",
            "```",
            f'ltx-generate --model THIS_FOLDER --prompt "waves at dusk"{_pipeline(about)}',
            "```",
            "",
            "A text encoder, Gemma 3 12B, is not in here: it is found or fetched, or named with",
            "`--text-encoder-repo`.",
            "",
            "| part | size |",
            "|---|---|",
            *rows,
            "",
        ]
    )


def _bits(how: Quantization | None) -> str | None:
    return None if how is None else f"{how.mode} {how.bits} bit"


def _fused(lora: Mapping[str, Any]) -> str:
    sound = "" if lora["audio_strength"] is None else f", sound {lora['audio_strength']:g}"
    return f"- LoRA `{lora['name']}` fused at strength {lora['strength']:g}{sound}"


def _pipeline(about: Mapping[str, Any]) -> str:
    return " --pipeline dev-two-stage" if about.get("variant") == "dev" else ""


def folder_sizes(shards: Mapping[str, int], copies: Sequence[tuple[str, int]]) -> dict[str, int]:
    """Bytes by folder, of networks and of the files that are copied."""
    found = dict(shards)
    for folder in (UPSCALERS, LORAS):
        if size := sum(size for name, size in copies if name.startswith(f"{folder}/")):
            found[folder] = size
    return found
