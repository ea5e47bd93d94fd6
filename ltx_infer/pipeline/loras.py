"""The LoRAs of a run, and putting them on the transformer of a stage."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Literal, NamedTuple

from ltx_infer.combinations import flags
from ltx_infer.config import DistilledFlag, GenerateConfig, LoRAFlag
from ltx_infer.pipeline.find_lora import distilled_lora_in, find_lora, step_of
from ltx_infer.pipeline.models import Models
from ltx_infer.pipeline.recipes import Recipe, Stage
from ltx_models.errors import UserError
from ltx_models.lora.adapters import Strength, attach, attach_text_path, fuse
from ltx_models.lora.files import LoRAFile, is_distilled, read_lora
from ltx_models.lora.fit import fit_loras, fit_text_path, text_path
from ltx_models.lora.names import in_text_path, model_names
from ltx_models.lora.retained import retained_lines
from ltx_models.text_encoder.connector import load_connectors
from ltx_models.text_encoder.encode import Adapt, named
from ltx_models.text_encoder.features import load_own_feature_extractor
from ltx_models.transformer.model import Transformer

SHOWN = 2  # layers in a line


class Loras(NamedTuple):
    """Adapters of a run: those asked for with their strengths, and the refinement LoRA."""

    asked: tuple[tuple[LoRAFile, Strength], ...] = ()
    distilled: LoRAFile | None = None
    distilled_strength: float | None = None  # in place of the recipe's, where it is on
    mode: Literal["attach", "fuse"] = "fuse"
    fuse_anyway: bool = False  # also where quantised weights keep too little
    merged: frozenset[Path] = frozenset()  # fused whatever the mode: they learnt to be, into these
    allow_unmatched: bool = False
    say: Callable[[str], None] | None = None  # is told what quantised weights kept
    notes: tuple[str, ...] = ()  # what was chosen, one line each

    def of(self, stage: Stage) -> list[tuple[LoRAFile, Strength]]:
        """What is on in a stage."""
        found = list(self.asked) if stage.user_loras else []
        strength = stage.distilled_lora
        if strength and self.distilled_strength is not None:
            strength = self.distilled_strength
        if strength and self.distilled is not None:
            found.append((self.distilled, Strength(strength)))
        return found


def open_loras(
    config: GenerateConfig, recipe: Recipe, *, folder: Path, stored: Collection[str]
) -> Loras:
    """Find and open the files of a run. Raises UserError for what cannot be had.

    ``stored`` says how the transformer's weights are quantised, in words; nothing where not.
    """
    found = Loras(allow_unmatched=config.lora_allow_unmatched, fuse_anyway=config.lora_fuse_anyway)
    for flag in config.lora:
        path = find_lora(flag.path)
        found = _with_note(found, *_chosen(flag, path))
        if is_distilled(path) and any(recipe.distilled_strengths):
            found = _refining(found, path, flag)
        else:
            asked = (*found.asked, (read_lora(path), _strength(flag, config)))
            found = found._replace(asked=asked)
    if config.distilled_lora is not None:
        if not any(recipe.distilled_strengths):
            raise UserError("--distilled-lora: no stage of this run refines with it")
        path = find_lora(config.distilled_lora.path, flag="--distilled-lora")
        found = _refining(found, path, config.distilled_lora)
    elif found.distilled is None and any(recipe.distilled_strengths):
        path = distilled_lora_in(folder)
        found = _with_note(found, f"distilled LoRA: {path.name}")
        found = found._replace(distilled=read_lora(path))
    given = config.given("lora_mode", "lora_fuse_anyway", "lora_allow_unmatched", "lora_strength")
    if given and not found.asked and found.distilled is None:
        raise UserError(f"{flags(given)}: for a --lora FILE")
    if config.lora_fuse_anyway and not stored:
        raise UserError("--lora-fuse-anyway: these weights are not quantised, and keep all of it")
    mode = config.lora_mode
    if mode == "auto":
        differ = len({(stage.user_loras, stage.distilled_lora) for stage in recipe.stages}) > 1
        mode = "attach" if stored or differ or config.low_memory else "fuse"
    return _merged(found._replace(mode=mode), config, stored)


def _merged(found: Loras, config: GenerateConfig, stored: Collection[str]) -> Loras:
    """Fuse what has learnt to be fused into just these weights, and say where that cannot be."""
    able = config.lora_mode != "attach" and not config.low_memory
    merged, notes = set(), []
    for file, _ in found.asked:
        if file.merge is None:
            continue
        if able and set(stored) == {file.merge}:
            merged.add(file.path)
            notes.append(f"{file.path.name}: fused, as it was trained to be, into {file.merge}")
        else:
            notes.append(f"{file.path.name}: {file.unmerged}")
    return _with_note(found._replace(merged=frozenset(merged)), *notes)


def _chosen(flag: LoRAFlag, path: Path) -> list[str]:
    """What a name that is not a file's stands for."""
    if Path(flag.path).expanduser() == path:
        return []
    step = step_of(path)
    return [f"--lora {flag.path}: {path.name}" + ("" if step is None else f", step {step}")]


def _refining(found: Loras, path: Path, flag: LoRAFlag | DistilledFlag) -> Loras:
    if found.distilled is not None:
        raise UserError(
            f"{path}: a second distilled LoRA beside {found.distilled.path}; one refines"
        )
    found = _with_note(found, f"{path.name} refines, in place of the model's own distilled LoRA")
    return found._replace(distilled=read_lora(path), distilled_strength=flag.strength)


def _with_note(found: Loras, *notes: str) -> Loras:
    return found._replace(notes=(*found.notes, *notes))


def check_loras(models: Models, loras: Loras, recipe: Recipe) -> list[str]:
    """Fit what each stage has on; lines that say what each file changes, and what is left out.

    Reads no weights. Raises LoRAError as ``apply_loras``, before anything long is begun.
    """
    model = Transformer(models.transformer_config, streams=recipe.streams)
    missing = "picture" if "audio" in recipe.streams else "sound"
    files: dict[Path, LoRAFile] = {}  # each once, also where it was asked for twice
    for stage in recipe.stages:
        for file, _ in loras.of(stage):
            files.setdefault(file.path, file)
    notes = []
    for path, file in files.items():
        fit = fit_loras(model, [file], allow_unmatched=loras.allow_unmatched)
        left_out = {
            "which this model lacks": fit.unmatched,
            f"as the run has no {missing}": fit.passed_over,
        }
        notes += [f"{path.name}: {line}" for line in file.warnings(models.checkpoint.version)]
        notes += [
            f"{path.name}: without {len(layers)} of its {len(file.entries)} layers, {why}: "
            f"{', '.join(layers[:SHOWN])}{', ...' if len(layers) > SHOWN else ''}"
            for why, layers in left_out.items()
            if layers
        ]
        if fit.text_path:
            notes.append(_check_text_path(models, loras, recipe, file, len(fit.text_path)))
    return notes


def _check_text_path(
    models: Models, loras: Loras, recipe: Recipe, file: LoRAFile, count: int
) -> str:
    """Fit a file to connectors and text projection; the line that says so."""
    checkpoint = replace(models.checkpoint, header_only=True)
    extractor = load_own_feature_extractor(checkpoint, dtype=models.dtype)
    connectors = load_connectors(checkpoint, dtype=models.dtype)
    fit_text_path(text_path(named(extractor, connectors)), [file], models.transformer_config)
    (strength,) = (s for f, s in _text_path_loras(models, loras, recipe) if f is file)
    line = f"{file.path.name}: {count} of its layers are of the text path"
    at = [s for stage in recipe.stages for f, s in loras.of(stage) if f is file]
    if any(other != strength for other in at) or len(at) < len(recipe.stages):
        line += f", which all stages share; there it has strength {strength.video:g}"
    return line


def text_path_adapter(models: Models, loras: Loras, recipe: Recipe) -> Adapt | None:
    """What puts the LoRAs of a run onto connectors and text projection; None where none does.

    A prompt is encoded once for all stages, with the strength of a file's first stage.
    """
    chosen = _text_path_loras(models, loras, recipe)
    if not chosen:
        return None
    return partial(attach_text_path, loras=chosen, config=models.transformer_config)


def _text_path_loras(
    models: Models, loras: Loras, recipe: Recipe
) -> list[tuple[LoRAFile, Strength]]:
    first: dict[int, tuple[LoRAFile, Strength]] = {}  # a file that is asked for twice is two
    for stage in recipe.stages:
        for file, strength in loras.of(stage):
            first.setdefault(id(file), (file, strength))
    if not first:
        return []
    names = model_names(models.transformer_config)
    return [
        (file, strength)
        for file, strength in first.values()
        if any(in_text_path(path) for name in file.entries for path in names.find(name))
    ]


def apply_loras(model: Transformer, loras: Loras, stage: Stage) -> None:
    """Attach or fuse what is on in a stage, and say what quantised weights kept of it.

    Raises LoRAError for keys that fit nowhere, and where quantised weights keep too little.
    """
    merged = [lora for lora in loras.of(stage) if lora[0].path in loras.merged]
    others = [lora for lora in loras.of(stage) if lora[0].path not in loras.merged]
    if merged:
        _fuse(model, merged, loras, stage, anyway=True)
    if others and loras.mode == "fuse":
        _fuse(model, others, loras, stage, anyway=loras.fuse_anyway)
    elif others:
        attach(model, others, allow_unmatched=loras.allow_unmatched)


def _fuse(
    model: Transformer,
    chosen: Sequence[tuple[LoRAFile, Strength]],
    loras: Loras,
    stage: Stage,
    *,
    anyway: bool,
) -> None:
    found = fuse(model, chosen, allow_unmatched=loras.allow_unmatched, anyway=anyway).retained
    for line in retained_lines(found):
        if loras.say is not None:
            loras.say(f"{stage.name}: {line}")


def _strength(flag: LoRAFlag, config: GenerateConfig) -> Strength:
    video = config.lora_strength if flag.strength is None else flag.strength
    return Strength(video, flag.audio_strength)
