"""All files of one request: chosen, listed and fetched together, before any of them is opened."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from ltx_infer.combinations import GUIDED
from ltx_infer.config import GenerateConfig
from ltx_infer.hub.fetch import Say, fetch, take
from ltx_infer.hub.find import ModelFiles, find_model, with_checkpoint
from ltx_infer.hub.names import Variant, choose_distilled_lora, is_distilled
from ltx_infer.hub.place import Wanted
from ltx_infer.hub.text_encoder import find_text_encoder
from ltx_infer.pipeline.find_lora import locate_lora
from ltx_models.checkpoint import open_checkpoint
from ltx_models.errors import UserError


class Files(NamedTuple):
    """What a run reads; all of it is on this machine."""

    model: ModelFiles
    gemma: Path | None  # None where prompts are encoded already
    upscaler: Path | None
    num_fetched: int = 0
    chosen_encoder: str | None = None  # the repository of a Gemma, where memory decided
    temporal_upscaler: Path | None = None


def find_files(
    config: GenerateConfig, *, say: Say, bring: Callable[[Sequence[Wanted]], int] | None = None
) -> Files:
    """Find what a request needs, and fetch what is not here.

    What was chosen is in the notes of ``model``. ``bring`` is given what is wanted in place of
    fetching it. Raises UserError for what cannot be had.
    """
    model = _find_model(config, say=say)
    if model.is_here:  # a damaged one is told before anything is fetched
        open_checkpoint(model.checkpoint, allow_unknown=config.allow_unknown_config)
    names = list(model.wanted)
    upscaler = Path(config.spatial_upscaler or "").expanduser()
    if config.two_stages and not upscaler.is_file():
        name = model.upscaler_name(config.spatial_upscaler)
        upscaler = model.folder / name
        names.append(name)
    temporal = None
    if config.temporal_upscale:
        names.append(model.temporal_upscaler_name())
        temporal = model.folder / names[-1]
    loras = [locate_lora(flag.path) for flag in config.lora]
    if config.distilled_lora is not None:
        loras.append(locate_lora(config.distilled_lora.path, flag="--distilled-lora"))
    if _refines(config, model) and not _gives_distilled(loras):
        names += _distilled_lora(model)
    wanted = [Wanted(model.place, tuple(names), model.flag), *loras]
    encoder = None
    if config.reads_prompts:
        encoder = find_text_encoder(config.text_encoder_repo, model.place)
        wanted.insert(1, encoder.wanted)
    num_fetched = fetch(wanted, say=say) if bring is None else bring(wanted)
    if encoder is not None:
        model.notes.extend(encoder.notes)
    if model.bits is not None:
        model.notes.append(f"{config.model}: {model.place}, quantised to {model.bits} bits at load")
    found = Files(model, None, upscaler if config.two_stages else None, num_fetched)
    found = found._replace(temporal_upscaler=temporal)
    if encoder is None:
        return found
    chosen = encoder.wanted.place.at if encoder.by_memory else None
    return found._replace(gemma=encoder.folder, chosen_encoder=chosen)


def _find_model(config: GenerateConfig, *, say: Say) -> ModelFiles:
    variant: Variant = "dev" if config.pipeline in GUIDED else "distilled"
    if config.checkpoint_path is None:
        return find_model(config.model, variant=variant, say=say)
    named = config.model if config.given("model") else None
    return with_checkpoint(config.checkpoint_path, named, variant=variant, say=say)


def fetch_distilled_lora(config: GenerateConfig, model: ModelFiles) -> None:
    """Fetch it where only the opened model told that a stage wants it, unless one is given."""
    loras = [locate_lora(flag.path) for flag in config.lora]
    if config.distilled_lora is None and not _gives_distilled(loras):
        take(model.place, _distilled_lora(model), say=model.say)


def _gives_distilled(loras: Sequence[Wanted]) -> bool:
    return any(
        is_distilled(name) or lora.flag == "--distilled-lora"
        for lora in loras
        for name in lora.names
    )


def _refines(config: GenerateConfig, model: ModelFiles) -> bool:
    """Whether a stage wants the model's own distilled LoRA, as far as names tell."""
    if config.pipeline in ("distilled", "ic-lora"):
        return model.named_variant == "dev"
    return config.pipeline == "dev-two-stage-hq" or (
        config.pipeline in ("dev-two-stage", "keyframe") and config.two_stages
    )


def _distilled_lora(model: ModelFiles) -> list[str]:
    """Its name; nothing where there is none, which only matters once a stage does want it."""
    try:
        return [choose_distilled_lora(model.place.names, at=str(model.place))]
    except UserError:
        return []
