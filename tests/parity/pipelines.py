"""Golden pipelines: the reference's own, with its contexts, its noise and its inputs."""

from collections.abc import Mapping
from dataclasses import replace
from math import inf
from typing import Any
from unittest.mock import patch

import mlx.core as mx
import numpy as np

from ltx_infer.config import build
from ltx_infer.pipeline import sanity
from ltx_infer.pipeline.inputs import Media, Picture, ReferenceClip, Sound, encode
from ltx_infer.pipeline.loras import Loras
from ltx_infer.pipeline.models import ClipSize, Models
from ltx_infer.pipeline.recipes import Facts, Recipe, make_recipe
from ltx_infer.pipeline.run import Draw, Shared, decode_audio, decode_video, run_each
from ltx_infer.pipeline.sanity import SanityError
from ltx_infer.pipeline.text import contexts_of
from ltx_infer.sampling.guidance import Guidance
from ltx_models.lora.adapters import Strength
from ltx_models.lora.files import read_lora
from ltx_models.text_encoder import PromptContext, encode_prompts
from ltx_models.transformer.model import BOTH
from tests.parity.case import Case, read_index
from tests.parity.text import gemma_folder

NAMES = {
    "one_stage": "dev",
    "two_stages": "dev-two-stage",
    "two_stages_hq": "dev-two-stage-hq",
    "a2vid": "dev-two-stage",
    "ic_lora": "ic-lora",
    "keyframes": "keyframe",
}
RATE = 16000


def pipeline(case: Case) -> dict[str, np.ndarray]:
    models = Models(case.checkpoint, case.folder, _upscaler(case), mx.float32)
    size = ClipSize(*(case.params[key] for key in ("num_frames", "height", "width", "fps")))
    recipe, loras, media = _recipe(case, models, size), _loras(case), _media(case, size)
    draws = iter([value for name, value in sorted(case.inputs.items()) if "noise." in name])
    # Random weights make latents of any spread, which is no fault of theirs; NaN stays one.
    with patch.object(sanity, "LATENT_STD", (0, inf)):
        inputs = encode(models, media, recipe, size, report=_quiet)
        draw = Draw(contexts_of(recipe, *_contexts(case)), lambda shape: next(draws).reshape(shape))
        shared = Shared(recipe, inputs, size, loras, max_batch_size=2)
        (made,) = run_each(models, shared, [draw], report=_quiet)
    found = made.stages
    assert not isinstance(found, SanityError)
    assert next(draws, None) is None, "not all of the recorded noise was asked for"
    got: dict[str, np.ndarray] = {}
    for number, latents in enumerate(found, 1):
        for stream, value in latents._asdict().items():
            if value is not None:
                got[f"stage{number}.{stream}_latent"] = np.array(value)
    if "frames" in case.expected:
        frames = np.concatenate(list(decode_video(models, found[-1].video)))
        got["frames"] = frames[tuple(slice(None, None, n) for n in case.params["out_stride"])]
    if "waveform" in case.expected:
        waveform, _ = decode_audio(models, found[recipe.sound_of].audio)
        got["waveform"] = waveform[:, :: case.params["wave_stride"]]
    return got


def _quiet(stage: str, done: int, total: int) -> None:
    pass


def _upscaler(case: Case):
    (name,) = {
        n for n in read_index(case.folder)["upscalers"] if "-x2" in n and "temporal" not in n
    }
    return case.folder / name


def _contexts(case: Case) -> list[PromptContext]:
    found = [
        PromptContext(*(case.inputs[f"{side}.{s}_context"] for s in BOTH))
        for side in ("pos", "neg")
        if f"{side}.video_context" in case.inputs
    ]
    if "prompt" in case.params:  # the recorded contexts are those of real prompts: make them too
        prompts = [case.params["prompt"], case.params["negative_prompt"]]
        length = case.params["max_length"]
        made = encode_prompts(
            gemma_folder(case), case.checkpoint, prompts, max_length=length, dtype=mx.float32
        )
        for mine, recorded in zip(made, found, strict=True):
            assert mx.allclose(mine.video, recorded.video, atol=1e-3)
        return made
    return found


def _recipe(case: Case, models: Models, size: ClipSize) -> Recipe:
    params = case.params
    name = NAMES.get(params["pipeline"], params["pipeline"])
    config = build({"prompt": "x", "pipeline": name, "audio": name != "t2a"} | _asked(case))
    frames, rows, columns = models.latent_size(size.of(0.5 if config.two_stages else 1))
    recipe = make_recipe(
        config,
        Facts(
            version=case.checkpoint.version,
            variant="distilled" if params.get("distilled", name == "distilled") else "dev",
            num_layers=models.transformer_config.num_layers,
            first_tokens=frames * rows * columns,
        ),
    )
    return replace(recipe, stages=tuple(_guided(stage, params) for stage in recipe.stages))


def _asked(case: Case) -> dict[str, Any]:
    params = case.params
    asked: dict[str, Any] = {}
    if "steps" in params:
        asked["steps"] = params["steps"]
    if "distilled_lora" in params:
        asked["distilled_lora"] = params["distilled_lora"][0]
    if "distilled_lora_strengths" in params:
        first, second = params["distilled_lora_strengths"]
        asked |= {"lora_strength_stage_1": first, "lora_strength_stage_2": second}
    if params.get("pipeline") == "a2vid":
        asked |= {"audio": False, "audio_file": "given.wav"}
    return asked


def _guided(stage, params: Mapping[str, Any]):
    """The case's own guiders in place of the defaults."""
    given = {
        stream: _guidance(params[f"{stream}_guider"])
        for stream in stage.guidance
        if f"{stream}_guider" in params
    }
    return replace(stage, guidance={**stage.guidance, **given})


def _guidance(guider: Mapping[str, Any]) -> Guidance:
    return Guidance(
        cfg=guider["cfg_scale"],
        stg=guider["stg_scale"],
        modality=guider["modality_scale"],
        rescale=guider["rescale_scale"],
        stg_blocks=tuple(guider["stg_blocks"]),
        skip_step=guider.get("skip_step", 0),
    )


def _loras(case: Case) -> Loras:
    asked = [
        (read_lora(case.folder / name), Strength(strength))
        for name, strength in case.params.get("loras", ())
    ]
    distilled = [read_lora(case.folder / name) for name, _ in case.params.get("distilled_lora", ())]
    return Loras(tuple(asked), distilled[0] if distilled else None, mode="attach")


def _media(case: Case, size: ClipSize) -> Media:
    params = case.params
    guide = params["pipeline"] == "keyframes"
    pictures = tuple(
        Picture(
            np.array(case.inputs[image["key"]]),
            image["frame_idx"],
            image["strength"],
            guide or image["frame_idx"] > 0,
        )
        for image in params.get("images", ())
    )
    media = Media(pictures=pictures)
    if "reference_u8" in case.inputs:
        (file,) = [lora for lora, _ in _loras(case).asked]
        media = media._replace(
            references=(
                ReferenceClip(
                    np.array(case.inputs["reference_u8"]),
                    params["video_conditioning_strength"],
                    file.reference_downscale_factor,
                    file.reference_temporal_scale_factor,
                    params["conditioning_attention_strength"],
                ),
            )
        )
    if "waveform" in case.inputs:
        media = media._replace(sound=Sound(np.array(case.inputs["waveform"][0]), RATE))
    if params["pipeline"] == "a2vid":
        return media._replace(frozen=("audio",))
    if params["pipeline"] == "retake":
        return media._replace(
            source=np.array(case.inputs["source_u8"]),
            region=(params["start_time"], params["end_time"]),
            frozen=() if params["regenerate_audio"] else ("audio",),
            kept=True,
        )
    return media


COMPONENTS = {"pipeline": pipeline}
