"""Prompts written out in detail by the text encoder's own Gemma (--enhance-prompt)."""

import re
from collections.abc import Sequence

from ltx_infer.pipeline.inputs import Media
from ltx_infer.pipeline.models import Models
from ltx_infer.pipeline.recipes import Recipe
from ltx_models.text_encoder.answer import answers, can_see

MAX_TOKENS = 320
LEAST_WORDS = 4
QUOTES = "\"'`*\u201c\u201d\u00ab\u00bb "
TASK = (
    "You help people who make short video clips with a generative model. Write out the idea below "
    "as the description of a single shot of a few seconds."
)
RULES = (
    "Keep every subject, action, name, place and spoken word of the idea, in its meaning and in "
    "its language; put nothing against it. Write one paragraph of plain sentences in the present "
    "tense, of 80 to 150 words, in the order in which things are seen.",
    "Tell how the shot is framed, what its subjects look like, what they do from its first moment "
    "to its last, how the camera moves, and which light and colours there are.",
)
SOUND = "Tell also what is heard: voices with their words in quotation marks, noises, music."
SOUND_ALONE = "There is no picture: tell what is heard alone, what makes it, and in what room."
SEEN = "The shot begins with this picture: tell what is in it as it is, and then what happens."
END = "Answer with the paragraph itself, without a heading or remark.\n\nThe idea: {}"


def instruction(prompt: str, recipe: Recipe, *, with_picture: bool) -> str:
    """What Gemma is asked to make of a prompt."""
    parts = [TASK, RULES[0]]
    if "video" not in recipe.streams:
        parts.append(SOUND_ALONE)
    else:
        parts.append(RULES[1])
        parts += [SOUND] if "audio" in recipe.streams else []
        parts += [SEEN] if with_picture else []
    return " ".join([*parts, END.format(prompt)])


def enhanced(
    models: Models, recipe: Recipe, media: Media, prompts: Sequence[str]
) -> tuple[list[str | None], list[str]]:
    """What Gemma makes of each prompt, None where it is of no use; and what is to be said of it.

    It is shown the picture that the clip begins with, if there is one and it has a vision tower.
    """
    assert models.gemma is not None  # there is one with --enhance-prompt
    first = next((shown.pixels for shown in media.pictures if shown.frame == 0), None)
    said = []
    if first is not None and not can_see(models.gemma):
        said.append("--enhance-prompt: this text encoder does not see the picture")
        first = None
    asked = {text: instruction(text, recipe, with_picture=first is not None) for text in prompts}
    texts = answers(
        models.gemma,
        list(asked.values()),
        picture=first,
        max_tokens=MAX_TOKENS,
        dtype=models.dtype,
    )
    found = {prompt: tidied(text) for prompt, text in zip(asked, texts, strict=True)}
    for prompt, text in found.items():
        said.append(
            f"--enhance-prompt: no use could be made of the answer; the prompt stays: {prompt}"
            if text is None
            else f"enhanced prompt: {text}"
        )
    return [found[prompt] for prompt in prompts], said


def tidied(text: str) -> str | None:
    """An answer as one paragraph that ends with a sentence; None if it is no text."""
    paragraph = re.sub(r"\s+", " ", text).strip(QUOTES)
    readable = "".join(char for char in paragraph if char.isprintable() and char != "\ufffd")
    whole = re.match(r".*[.!?\u3002][\"'\u201d\u00bb]?(?=\s|$)", readable)
    found = whole[0] if whole else readable
    return found if len(re.findall(r"[^\W\d_]+", found)) >= LEAST_WORDS else None
