"""What is asked of ltx-precompute; a field is the flag of the same name."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ltx_train.inputs.buckets import Bucket

CAPTION_MODEL = "mlx-community/SmolVLM-Instruct-4bit"


@dataclass(frozen=True)
class PrecomputeConfig:
    """One run over a folder of clips, a data set, or (``prompts_only``) a list of prompts."""

    output_dir: Path
    model: str
    resolution_buckets: tuple[Bucket, ...] = ()
    input_dir: Path | None = None
    dataset: str | None = None  # a ``datasets`` repository or folder, instead of input_dir
    prompts_file: Path | None = None
    caption_column: str = "caption"
    video_column: str | None = None  # None: video, media_path, image, the first that there is
    text_encoder_repo: Path | None = None
    fps: float | None = None  # the rate that clips are brought to; None: each one's average
    crop: Literal["center", "random"] = "center"
    with_audio: bool = False
    trigger: str | None = None
    caption: bool = False
    caption_backend: Literal["mlx", "transformers"] = "mlx"
    caption_model: str = CAPTION_MODEL
    caption_prompt: str | None = None  # None: our own
    reference_dir: Path | None = None
    reference_audio_dir: Path | None = None
    video_mask_dir: Path | None = None
    audio_mask_dir: Path | None = None
    reference_downscale_factor: int = 1
    reference_temporal_scale_factor: int = 1
    prompts_only: bool = False
    negative_prompt: str = ""  # stored beside each prompt of prompts_only
    preview: bool = False
    overwrite: bool = False
    dry_run: bool = False
    debug: bool = False
    allow_unknown_config: tuple[str, ...] = ()
