"""What a conversion is asked for."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ltx_models.converted.plan import LARGEST_FILE
from ltx_models.lora.adapters import Loras
from ltx_models.quantize import Quantization

Say = Callable[[str], None]
Report = Callable[[str, int, int], None]  # what is done, how many steps of it are, of how many


@dataclass(frozen=True)
class ConvertRequest:
    """From ``source``, a monolith or a converted folder, to the folder ``output``.

    ``upscalers`` and ``distilled_loras`` are files that are copied into it. ``gemma`` is the text
    encoder that ``compensate``, the rank of adapters beside quantised weights, reads prompts with.
    """

    source: Path
    output: Path
    variant: str | None = None  # dev or distilled, where it is known
    how: Quantization | None = None
    loras: Loras = ()
    lora_allow_unmatched: bool = False
    compensate: int | None = None
    gemma: Path | None = None
    upscalers: tuple[Path, ...] = ()
    distilled_loras: tuple[Path, ...] = ()
    allow_unknown: tuple[str, ...] = ()
    overwrite: bool = False
    largest_file: int = LARGEST_FILE
