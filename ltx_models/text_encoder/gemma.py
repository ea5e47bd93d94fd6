"""Gemma 3 by mlx-lm, for its hidden states (spec/model.md 6.1)."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import mlx.core as mx

from ltx_models.config import as_object, read_object, summarise
from ltx_models.text_encoder.gemma_config import WOULD_FIT, GemmaConfig
from ltx_models.weights import TensorFile, WeightsError

Gemma = Any  # mlx_lm.models.gemma3_text.Gemma3Model; importing mlx-lm takes a second


def load_gemma(folder: Path, config: GemmaConfig, *, dtype: mx.Dtype) -> Gemma:
    """The text model without its head, its weights unread until they are first used.

    Raises WeightsError as ``load_whole_gemma``.
    """
    model = load_whole_gemma(folder, config, dtype=dtype)
    return model.language_model.model if hasattr(model, "language_model") else model.model


def load_whole_gemma(folder: Path, config: GemmaConfig, *, dtype: mx.Dtype) -> Gemma:
    """The text model with its head, from tokens to logits, its weights unread as yet.

    ``config`` is the folder's own. Weights may be MLX-quantised; ``dtype`` is that of all others
    and of the computation. Raises WeightsError unless every weight is there in its shape.
    """
    from mlx_lm.utils import load_model  # noqa: PLC0415

    check_gemma_files(folder)
    sizes = config.model_dump()
    text_config = {**sizes, "model_type": "gemma3_text"}
    try:
        # Where the folder's model is the text model itself, mlx-lm reads the sizes at the top.
        loaded: tuple[Any, dict[str, Any]] = load_model(
            folder, lazy=True, model_config={**sizes, "text_config": text_config}
        )
    except (ValueError, KeyError) as error:
        fault, *names = str(error).replace(",\n", "\n").splitlines()
        more = f" and {len(names) - 2} more" if len(names) > 2 else ""
        raise WeightsError(
            f"{folder}: its weights do not fit its config.json:\n"
            f"{fault.strip()} {', '.join(names[:2])}{more}".rstrip()
        ) from None
    model, _ = loaded
    model.set_dtype(dtype)
    return model


def check_gemma_files(folder: Path) -> None:
    """Raise WeightsError unless all of the folder's weight files are there and whole.

    Reads their headers; which tensors they should hold is only known to their index, if any.
    """
    files = {path.name: TensorFile(path) for path in sorted(folder.glob("model*.safetensors"))}
    index = folder / "model.safetensors.index.json"
    if index.exists():
        places = as_object(read_object(index).get("weight_map"), at=f"{index}: weight_map")
        if missing := sorted({str(name) for name in places.values()} - files.keys()):
            raise WeightsError(
                f"{folder}: files that its index names are not there:\n{summarise(missing)}"
            )
        if missing := sorted(key for key, name in places.items() if key not in files[name].infos):
            raise WeightsError(
                f"{folder}: tensors that its index names are not there:\n{summarise(missing)}"
            )
    if not files:
        raise WeightsError(f"{folder}: no model*.safetensors in this folder\n{WOULD_FIT}.")


def hidden_states(gemma: Gemma, ids: Sequence[int]) -> mx.array:
    """All hidden states of one prompt's S tokens: (layers + 1, S, D).

    The first is the scaled embedding and the last has gone through the final norm. There is no
    padding: positions and masks are relative, so that padding would change nothing.
    """
    x = gemma.embed_tokens(mx.array([ids]))
    x = x * mx.array(x.shape[-1] ** 0.5, x.dtype)  # transformers, too, rounds the factor
    states = [x]
    near = _sliding_mask(len(ids), gemma.window_size)
    for layer in gemma.layers:
        x = layer(x, near if layer.self_attn.is_sliding else "causal")
        if mx.metal.is_available():  # macOS stops work that keeps the GPU from the display
            mx.eval(x)
        states.append(x)
    states[-1] = gemma.norm(x)
    return mx.concatenate(states)


def _sliding_mask(num_tokens: int, window: int) -> mx.array | str:
    if num_tokens <= window:
        return "causal"
    distance = mx.arange(num_tokens)[:, None] - mx.arange(num_tokens)
    return (distance >= 0) & (distance < window)
