"""Prompts to what the transformer is told: by Gemma and the connectors."""

from collections.abc import Mapping, Sequence

from ltx_infer.pipeline.loras import Loras, text_path_adapter
from ltx_infer.pipeline.models import Models
from ltx_infer.pipeline.recipes import Recipe
from ltx_infer.sampling.denoise import Context
from ltx_models.text_encoder import PromptContext, encode_prompts, num_tokens_left_out
from ltx_models.text_encoder.connector import MAX_LENGTH
from ltx_models.transformer.block import StreamName

Contexts = Mapping[StreamName, Context]


def encode_each(
    models: Models,
    recipe: Recipe,
    prompts: Sequence[str],
    negative: str,
    *,
    loras: Loras | None = None,
) -> list[Contexts]:
    """The contexts of each prompt, Gemma being loaded once and no prompt encoded twice.

    The negative prompt is that of all, and encoded only where a stage is guided by it.
    """
    assert models.gemma is not None  # only what is encoded already goes without
    texts = list(dict.fromkeys([*prompts, *_negatives(recipe, negative)]))
    encoded = encode_prompts(
        models.gemma,
        models.checkpoint,
        texts,
        dtype=models.dtype,
        audio="audio" in recipe.streams,
        adapt=None if loras is None else text_path_adapter(models, loras, recipe),
    )
    found = dict(zip(texts, encoded, strict=True))
    others = [found[text] for text in _negatives(recipe, negative)]
    return [contexts_of(recipe, found[prompt], *others) for prompt in prompts]


def prompt_notes(
    models: Models, recipe: Recipe, prompts: Sequence[str], negative: str
) -> list[str]:
    """One line for each prompt that is longer than the text encoder reads."""
    names = ["the"] if len(prompts) == 1 else [f"clip {n + 1}: the" for n in range(len(prompts))]
    if models.gemma is None:
        return []
    negatives = _negatives(recipe, negative)
    names += ["the negative"] * len(negatives)
    left_out = num_tokens_left_out(models.gemma, [*prompts, *negatives])
    return [
        f"{what} prompt: its last {number} tokens are left out; {MAX_LENGTH} are read"
        for what, number in zip(names, left_out, strict=True)
        if number
    ]


def is_guided(recipe: Recipe) -> bool:
    """Whether a stage needs a negative prompt."""
    return any(g.cfg != 1 for stage in recipe.stages for g in stage.guidance.values())


def _negatives(recipe: Recipe, negative: str) -> list[str]:
    return [negative] if is_guided(recipe) else []


def contexts_of(
    recipe: Recipe, positive: PromptContext, negative: PromptContext | None = None
) -> Contexts:
    """Encoded prompts by stream."""
    return {
        name: Context(
            getattr(positive, name), None if negative is None else getattr(negative, name)
        )
        for name in recipe.streams
    }
