"""Prompts that are encoded already, in the place of Gemma; and random ones, to test without it.

A file of ``ltx-precompute --prompts-only`` holds the features of a prompt and of its negative one,
as Gemma and the text projection give them; the connectors follow here. An .npz, as the first MLX
port of LTX-2 wrote it, holds what the connector gives, of the picture alone.
"""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple
from zipfile import BadZipFile

import mlx.core as mx
import numpy as np

from ltx_infer.pipeline.loras import Loras, text_path_adapter
from ltx_infer.pipeline.models import Models
from ltx_infer.pipeline.recipes import Recipe
from ltx_infer.pipeline.text import Contexts, contexts_of, is_guided
from ltx_models.converted.layout import PROJECTION
from ltx_models.errors import UserError, reason
from ltx_models.identity import weights_hash
from ltx_models.text_encoder import PromptContext, connect
from ltx_models.text_encoder.features import TextFeatures
from ltx_models.weights import TensorFile, WeightsError, read_lazily

VIDEO, AUDIO = "video_prompt_embeds", "audio_prompt_embeds"
MASK, NEGATIVE = "prompt_attention_mask", "negative_"
OLD, OLD_MASK = "embedding", "attention_mask"
DUMMY_TOKENS = 64
MADE_BY = "ltx-precompute --prompts-only makes such files"


class Embedding(NamedTuple):
    """A prompt that was encoded: its features, or of an .npz its context."""

    path: Path
    prompt: str
    about: dict[str, str]  # model_version, model_hash, negative_prompt; empty of an .npz
    features: TextFeatures | None = None
    negative: TextFeatures | None = None
    context: mx.array | None = None  # (1, S, width of the video connector)


def read_embedding(path: Path) -> Embedding:
    """Open an encoded prompt. Raises UserError for what is none."""
    if not path.is_file():
        raise UserError(f"--embedding {path}: there is no such file")
    if path.suffix.lower() == ".npz":
        return _read_npz(path)
    try:
        file = TensorFile(path)
    except WeightsError as error:
        raise UserError(f"--embedding {path}: {MADE_BY}; {error}") from None
    if VIDEO not in file.infos:
        raise UserError(f"--embedding {path}: it has no {VIDEO}; {MADE_BY}")
    tensors = file.tensors("", [key for key in file.infos if key.endswith((VIDEO, AUDIO))])
    masks = read_lazily(path)  # of truth values, which are no weights

    def features(prefix: str) -> TextFeatures | None:
        video = tensors.get(prefix + VIDEO)
        if video is None:
            return None
        audio = tensors.get(prefix + AUDIO, video)
        valid = np.array(masks.get(prefix + MASK, mx.ones(len(video)))) > 0
        places = mx.array(np.flatnonzero(valid))
        return TextFeatures(video[places], audio[places])

    about = file.metadata
    prompt = about.get("prompt") or about.get("caption") or path.stem
    return Embedding(path, prompt, dict(about), features(""), features(NEGATIVE))


def _read_npz(path: Path) -> Embedding:
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: np.asarray(file[name]) for name in file.files}
    except (OSError, ValueError, BadZipFile) as error:
        why = reason(error) if isinstance(error, OSError) else str(error).splitlines()[0]
        raise UserError(f"--embedding {path}: cannot be read: {why}") from None
    context = arrays.get(OLD)
    if context is None or context.ndim != 3 or len(context) != 1:
        raise UserError(
            f"--embedding {path}: it has no {OLD!r} of one prompt; {MADE_BY}, in another form"
        )
    valid = arrays.get(OLD_MASK, np.ones(context.shape[:2])).reshape(-1) > 0
    if len(valid) != context.shape[1] or not valid.any():
        raise UserError(f"--embedding {path}: its {OLD_MASK!r} does not fit its {OLD!r}")
    prompt = str(arrays["prompt"]) if "prompt" in arrays else path.stem
    return Embedding(path, prompt, {}, context=mx.array(context[:, valid].astype(np.float32)))


def check_embedding(
    embedding: Embedding, models: Models, recipe: Recipe, loras: Loras
) -> list[str]:
    """What is to be said of it, one line each.

    Raises UserError for one that another model made, or that lacks what the run needs.
    """
    at = f"--embedding {embedding.path}"
    if embedding.features is None:
        _check_context(embedding, models, recipe, at=at)
        return [f"{at}: it does not say which model made it"]
    version = ".".join(map(str, models.checkpoint.version))
    projection = weights_hash([models.checkpoint.file], prefixes=(PROJECTION,))
    made = (embedding.about.get("model_version"), embedding.about.get("model_hash", ""))
    if made[0] != version or made[1].rpartition("-")[2] != projection:
        raise UserError(
            f"{at}: made with model version {made[0]}, weights {made[1] or 'unknown'}; this is "
            f"version {version}, text projection {projection}.\n"
            "Encode the prompt with this model: ltx-precompute --prompts-only"
        )
    if is_guided(recipe) and embedding.negative is None:
        raise UserError(f"{at}: it has no negative prompt, which guidance needs; {MADE_BY} with it")
    for file, _ in (pair for stage in recipe.stages for pair in loras.of(stage)):
        if any(PROJECTION.removesuffix(".") in name for name in file.entries):
            raise UserError(f"{at}: {file.path} changes the text projection, whose work is done")
    return []


def _check_context(embedding: Embedding, models: Models, recipe: Recipe, *, at: str) -> None:
    assert embedding.context is not None
    width, wanted = embedding.context.shape[-1], models.transformer_config.connector.dim
    if width != wanted:
        raise UserError(f"{at}: it has {width} numbers a token, this model takes {wanted}")
    if "audio" in recipe.streams:
        raise UserError(f"{at}: an .npz tells of no sound; {MADE_BY}, which do")
    if is_guided(recipe):
        raise UserError(f"{at}: an .npz has no negative prompt, which guidance needs; {MADE_BY}")


def embedded_contexts(
    models: Models, recipe: Recipe, embedding: Embedding, *, loras: Loras
) -> Contexts:
    """The contexts of an encoded prompt, by the connectors."""
    if embedding.features is None:
        assert embedding.context is not None
        return contexts_of(recipe, PromptContext(embedding.context.astype(models.dtype), None))
    assert not is_guided(recipe) or embedding.negative is not None
    features = [embedding.features]
    if is_guided(recipe) and embedding.negative is not None:
        features.append(embedding.negative)
    return contexts_of(recipe, *_connected(models, recipe, features, loras))


def dummy_contexts(
    models: Models, recipe: Recipe, prompts: Sequence[str], negative: str, *, loras: Loras
) -> list[Contexts]:
    """Contexts of random features, the same for the same prompt."""
    texts = list(dict.fromkeys([*prompts, negative]))
    features = [_random_features(text, models) for text in texts]
    found = dict(zip(texts, _connected(models, recipe, features, loras), strict=True))
    others = [found[negative]] if is_guided(recipe) else []
    return [contexts_of(recipe, found[prompt], *others) for prompt in prompts]


def _random_features(text: str, models: Models) -> TextFeatures:
    seed = int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")
    config = models.transformer_config
    keys: Any = mx.random.split(mx.random.key(seed))
    dims = (config.connector.dim, config.audio_connector.dim)
    drawn = [
        mx.random.normal((DUMMY_TOKENS, dim), key=key) for dim, key in zip(dims, keys, strict=True)
    ]
    return TextFeatures(*drawn)


def _connected(
    models: Models, recipe: Recipe, features: Sequence[TextFeatures], loras: Loras
) -> list[PromptContext]:
    found = connect(
        models.checkpoint,
        features,
        audio="audio" in recipe.streams,
        dtype=models.dtype,
        adapt=text_path_adapter(models, loras, recipe),
    )
    mx.clear_cache()
    return found
