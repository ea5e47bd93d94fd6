"""The LoRAs of a run, and putting them on the transformer of a stage."""

from pathlib import Path
from typing import Literal, NamedTuple

from ltx_infer.config import GenerateConfig, LoRAFlag
from ltx_infer.find_lora import distilled_lora_in, find_lora
from ltx_infer.recipes import Recipe, Stage
from ltx_models.lora import Strength, attach, fuse
from ltx_models.lora_files import LoRAFile, is_distilled, read_lora
from ltx_models.transformer.model import Transformer


class Loras(NamedTuple):
    """Adapters of a run: those asked for with their strengths, and the refinement LoRA."""

    asked: tuple[tuple[LoRAFile, Strength], ...] = ()
    distilled: LoRAFile | None = None
    mode: Literal["attach", "fuse"] = "fuse"
    allow_unmatched: bool = False
    notes: tuple[str, ...] = ()  # what was chosen, one line each

    def of(self, stage: Stage) -> list[tuple[LoRAFile, Strength]]:
        """What is on in a stage."""
        found = list(self.asked) if stage.user_loras else []
        if stage.distilled_lora and self.distilled is not None:
            found.append((self.distilled, Strength(stage.distilled_lora)))
        return found


def open_loras(config: GenerateConfig, recipe: Recipe, *, folder: Path, quantized: bool) -> Loras:
    """Find and open the files of a run. Raises UserError for what cannot be had."""
    asked, distilled, notes = [], None, []
    for flag in config.lora:
        path = find_lora(flag.path)
        if str(path) != flag.path:
            notes.append(f"--lora {flag.path}: {path.name}")
        if is_distilled(path):
            notes.append(
                f"{path.name}: a distilled LoRA, which refines in place of the model's own"
            )
            distilled = read_lora(path)
        else:
            asked.append((read_lora(path), _strength(flag, config)))
    if config.distilled_lora is not None:
        distilled = read_lora(find_lora(config.distilled_lora.path))
    if distilled is None and any(recipe.distilled_strengths):
        path = distilled_lora_in(folder)
        notes.append(f"distilled LoRA: {path.name}")
        distilled = read_lora(path)
    mode = config.lora_mode
    if mode == "auto":
        differ = len({(stage.user_loras, stage.distilled_lora) for stage in recipe.stages}) > 1
        mode = "attach" if quantized or differ else "fuse"
    return Loras(tuple(asked), distilled, mode, config.lora_allow_unmatched, tuple(notes))


def apply_loras(model: Transformer, loras: Loras, stage: Stage) -> None:
    """Attach or fuse what is on in a stage. Raises LoRAError for keys that fit nowhere."""
    chosen = loras.of(stage)
    if chosen:
        put = attach if loras.mode == "attach" else fuse
        put(model, chosen, allow_unmatched=loras.allow_unmatched)


def _strength(flag: LoRAFlag, config: GenerateConfig) -> Strength:
    video = config.lora_strength if flag.strength is None else flag.strength
    return Strength(video, flag.audio_strength)
