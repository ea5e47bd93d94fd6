"""Gemma 3 asked in words, with a picture if it can see: mlx-lm's network, and mlx-vlm's.

Always the likeliest token is taken, so that the same question has the same answer.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast

import mlx.core as mx
import numpy as np

from ltx_models.config import read_object
from ltx_models.errors import UserError
from ltx_models.text_encoder.gemma import load_whole_gemma
from ltx_models.text_encoder.gemma_config import read_gemma_config
from ltx_models.text_encoder.tokenizer import BOS, load_tokenizer
from ltx_models.weights import TensorFile

END, EOS = "<end_of_turn>", "<eos>"
TURN = "<start_of_turn>user\n{}<end_of_turn>\n<start_of_turn>model\n"
PICTURE = "\n\n<start_of_image>{}<end_of_image>\n\n"
SOFT_TOKEN = "<image_soft_token>"  # whose places the picture's features take
Logits = Callable[[mx.array, Any], mx.array]  # of the tokens after those in the cache


def can_see(gemma_folder: Path) -> bool:
    """Whether a Gemma folder has a vision tower; reads headers."""
    if not read_object(gemma_folder / "config.json").get("vision_config"):
        return False
    files = gemma_folder.glob("model*.safetensors")
    return any("vision_tower." in key for path in files for key in TensorFile(path).infos)


def answers(
    gemma_folder: Path,
    questions: Sequence[str],
    *,
    picture: np.ndarray | None = None,
    max_tokens: int,
    dtype: mx.Dtype,
) -> list[str]:
    """What Gemma answers to each question, all on one picture (H, W, 3) in bytes if there is one.

    An answer that is longer than ``max_tokens`` is cut. The network is freed again. Raises
    UserError for a folder that is no whole Gemma 3.
    """
    model = _load(gemma_folder, with_eyes=picture is not None, dtype=dtype)
    tokenizer = load_tokenizer(gemma_folder)
    ends = {tokenizer.token_to_id(name) for name in (END, EOS)}
    found = []
    for question in questions:
        shown = "" if picture is None else PICTURE.format(SOFT_TOKEN * _tokens_of(model))
        text = BOS + TURN.format(shown + question.strip())
        ids = tokenizer.encode(text, add_special_tokens=False).ids
        first, logits, cache = _begin(model, ids, picture)
        found.append(tokenizer.decode(_greedy(first, logits, cache, ends, max_tokens)))
    del model
    mx.clear_cache()
    return found


def _load(folder: Path, *, with_eyes: bool, dtype: mx.Dtype) -> Any:
    if not with_eyes:
        return load_whole_gemma(folder, read_gemma_config(folder), dtype=dtype)
    from mlx_vlm.utils import load_model  # noqa: PLC0415  (it takes seconds)

    try:
        model: Any = load_model(folder, lazy=True)
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{folder}: mlx-vlm cannot load it: {str(error)[:200]}") from error
    model.set_dtype(dtype)
    return model


def _tokens_of(model: Any) -> int:
    return model.config.text_config.mm_tokens_per_image


def _begin(model: Any, ids: list[int], picture: np.ndarray | None) -> tuple[mx.array, Logits, Any]:
    """The logits behind a question, what gives those of later tokens, and the cache."""
    from mlx_lm.models.cache import make_prompt_cache  # noqa: PLC0415

    tokens = mx.array([ids])
    if picture is None:
        cache = make_prompt_cache(model)
        return model(tokens, cache=cache), lambda token, cache: model(token, cache=cache), cache
    pixels = _pixels(picture, model.config.vision_config.image_size)
    seen = model.get_input_embeddings(tokens, pixels, mask=mx.ones_like(tokens))
    language = model.language_model
    cache = make_prompt_cache(language)
    first = language(tokens, inputs_embeds=seen.inputs_embeds, cache=cache).logits
    return first, lambda token, cache: language(token, cache=cache).logits, cache


def _greedy(
    first: mx.array, logits: Logits, cache: Any, ends: set[int | None], max_tokens: int
) -> list[int]:
    found: list[int] = []
    after = first
    while len(found) < max_tokens:
        token = mx.argmax(after[:, -1], axis=-1)
        (number,) = cast(list[int], token.tolist())
        if number in ends:
            break
        found.append(number)
        after = logits(token[:, None], cache)
    return found


def _pixels(picture: np.ndarray, side: int) -> mx.array:
    """A picture as the vision tower takes it: (1, 3, side, side) in [-1, 1]."""
    from PIL import Image  # noqa: PLC0415

    square = Image.fromarray(picture).resize((side, side), Image.Resampling.BILINEAR)
    values = np.asarray(square, np.float32) / 127.5 - 1
    return mx.array(values.transpose(2, 0, 1)[None])
