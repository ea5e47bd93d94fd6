"""Where a data set's samples lie, and what their tensors are called (spec/training.md 1.4).

``ROOT/KIND/REL.safetensors``: one folder a kind, and REL, the clip's name without its ending, says
what belongs together. Scalars are in the files' metadata, as text.
"""

from pathlib import Path
from typing import Literal, get_args

Kind = Literal[
    "latents",
    "conditions",
    "audio_latents",
    "reference_latents",
    "reference_audio_latents",
    "video_masks",
    "audio_masks",
]
KINDS: tuple[Kind, ...] = get_args(Kind)
LATENTS, MASK = "latents", "mask"  # the tensor of the four latents kinds, and of the two of masks
VIDEO_FEATURES, AUDIO_FEATURES = "video_prompt_embeds", "audio_prompt_embeds"
FEATURE_MASK = "prompt_attention_mask"
ENDING = ".safetensors"
MANIFEST, EMPTY_PROMPT = "manifest.jsonl", f"empty_prompt{ENDING}"


def sample_path(root: Path, kind: str, stem: Path | str) -> Path:
    """The file of one sample; ``stem`` is REL."""
    return root / kind / f"{stem}{ENDING}"
