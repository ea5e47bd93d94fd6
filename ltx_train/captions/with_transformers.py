"""Captions by transformers on PyTorch, neither of which ltx-mlx needs for anything else."""

from collections.abc import Sequence
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from PIL.Image import Image

from ltx_models.errors import UserError
from ltx_train.captions.with_mlx import MAX_TOKENS, Answer, Captioner, do_not_split


def load_captioner(model: str, instruction: str) -> Captioner:
    """A function from pictures to what the model says of them, always the same.

    ``model`` is a folder or a repository of the hub. Raises UserError for one that cannot be had
    or read, and where there is no PyTorch.
    """
    if find_spec("torch") is None:
        raise UserError(
            "--caption-backend transformers: it needs PyTorch, which is not installed.\n"
            'pip install torch  (or, in a clone of ltx-mlx: pip install -e ".[interop]")\n'
            "--caption-backend mlx, the default, needs nothing more"
        )
    torch, transformers = import_module("torch"), import_module("transformers")
    try:
        processor = transformers.AutoProcessor.from_pretrained(model)
        network = transformers.AutoModelForImageTextToText.from_pretrained(model, dtype="auto")
    # Each architecture fails in its own way on files that do not fit it.
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, ImportError) as error:
        said = str(error).strip().splitlines()[0]
        raise UserError(f"--caption-model {model}: transformers cannot load it: {said}") from error
    device = _device(torch)
    network = network.to(device).eval()

    def caption(pictures: Sequence[Image]) -> Answer:
        do_not_split(processor, pictures)
        content = [{"type": "image"} for _ in pictures] + [{"type": "text", "text": instruction}]
        prompt = processor.apply_chat_template(
            [{"role": "user", "content": content}], add_generation_prompt=True
        )
        inputs = processor(text=prompt, images=list(pictures), return_tensors="pt")
        inputs = inputs.to(device, dtype=network.dtype)
        with torch.inference_mode():
            ids = network.generate(**inputs, do_sample=False, max_new_tokens=MAX_TOKENS)
        said = ids[0, inputs["input_ids"].shape[1] :]
        return Answer(processor.decode(said, skip_special_tokens=True), len(said) < MAX_TOKENS)

    return caption


def _device(torch: Any) -> str:
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"
