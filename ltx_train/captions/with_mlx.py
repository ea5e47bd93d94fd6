"""Captions by mlx-vlm."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from PIL.Image import Image

from ltx_models.config import read_object
from ltx_models.errors import UserError

MAX_TOKENS = 256


class Answer(NamedTuple):
    """What a model said, and whether it ended by itself."""

    text: str
    is_whole: bool


Captioner = Callable[[Sequence[Image]], Answer]


def load_captioner(model: str, instruction: str) -> Captioner:
    """A function from pictures to what the model says of them, always the same.

    ``model`` is a folder or a repository of the hub. Raises UserError for one that cannot be had
    or read.
    """
    # Importing it takes seconds.
    from mlx_vlm.generate import generate  # noqa: PLC0415
    from mlx_vlm.prompt_utils import apply_chat_template  # noqa: PLC0415
    from mlx_vlm.utils import load  # noqa: PLC0415

    folder = _folder(model)
    try:
        loaded: tuple[Any, Any] = load(str(folder), trust_remote_code=False)
    # Each architecture fails in its own way on files that do not fit it.
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, ImportError) as error:
        raise UserError(f"--caption-model {model}: mlx-vlm cannot load it: {error}") from error
    network, processor = loaded

    def caption(pictures: Sequence[Image]) -> Answer:
        do_not_split(processor, pictures)
        shown: Any = list(pictures)  # the annotations know paths only
        prompt: Any = apply_chat_template(
            processor, network.config, instruction, num_images=len(pictures)
        )
        try:
            found = generate(
                network,
                processor,
                prompt,
                image=shown,
                max_tokens=MAX_TOKENS,
                temperature=0.0,
                skip_special_tokens=True,
            )
        except ValueError as error:  # as from a model that takes a single picture
            raise UserError(f"the caption model cannot take it: {error}") from error
        return Answer(found.text, found.finish_reason != "length")

    return caption


def do_not_split(processor: Any, pictures: Sequence[Image]) -> None:
    """Show a picture among others as a whole only.

    SmolVLM cuts a picture into sixteen besides, a thousand tokens for each of several frames.
    """
    if hasattr(processor.image_processor, "do_image_splitting"):
        processor.image_processor.do_image_splitting = len(pictures) == 1


def _folder(model: str) -> Path:
    """Where the model lies, fetched if it is a repository's name."""
    from mlx_vlm.utils import get_model_path  # noqa: PLC0415

    try:
        folder = get_model_path(str(Path(model).expanduser()))
    except (OSError, ValueError) as error:
        said = str(error).splitlines()[0]
        raise UserError(
            f"--caption-model {model}: no such folder, and not to be had from the hub: {said}"
        ) from error
    if "model_file" in read_object(folder / "config.json"):
        raise UserError(f"--caption-model {model}: it brings code of its own, which is not run")
    return folder
