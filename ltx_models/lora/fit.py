"""Whether LoRA files fit a transformer: every layer that they name is found, or the run stops."""

from collections.abc import Collection, Mapping, Sequence
from difflib import get_close_matches
from typing import NamedTuple

from ltx_models.config import summarise
from ltx_models.lora.files import LoRAError, LoRAFile, is_audio
from ltx_models.lora.linear import Linear, linears, weight_shape
from ltx_models.transformer.model import Transformer

SHOWN = 2  # layers in a message


class Fit(NamedTuple):
    """What became of the layers that the files name, by their paths."""

    placed: tuple[str, ...]  # in the model, each once, however many files change it
    passed_over: tuple[str, ...]  # of the stream that the model was built without
    unmatched: tuple[str, ...]  # of no model like this; only under ``allow_unmatched``


def fit_loras(
    model: Transformer, files: Sequence[LoRAFile], *, allow_unmatched: bool = False
) -> Fit:
    """Find the layer of each module that the files name; reads no tensor.

    Raises LoRAError where there is none (unless ``allow_unmatched``), where sizes differ, and for
    a file that would change nothing.
    """
    layers = linears(model)
    known = layers.keys()
    if any(file.entries.keys() - known for file in files):
        known = linears(Transformer(model.config)).keys()  # lazy: makes no weight
    placed: dict[str, None] = {}
    passed_over, unmatched = [], []
    for file in files:
        here = {path: layers[path] for path in file.entries if path in layers}
        strange = [path for path in file.entries if path not in known]
        elsewhere = [path for path in file.entries if path in known and path not in layers]
        if strange and not allow_unmatched:
            raise _unmatched_error(file, strange, known)
        if not here:
            raise _nothing_error(file, elsewhere)
        _check_shapes(file, here)
        placed |= dict.fromkeys(here)
        passed_over += elsewhere
        unmatched += strange
    return Fit(tuple(placed), tuple(passed_over), tuple(unmatched))


def _check_shapes(file: LoRAFile, layers: Mapping[str, Linear]) -> None:
    problems = [
        f"{path}: {file.entries[path].shape} in the file, {weight_shape(layer)} in the model"
        for path, layer in layers.items()
        if file.entries[path].shape != weight_shape(layer)
    ]
    if problems:
        listed = summarise(problems, shown=SHOWN)
        raise LoRAError(f"{file.path} was made for a model of other sizes:\n{listed}")


def _unmatched_error(file: LoRAFile, strange: Sequence[str], known: Collection[str]) -> LoRAError:
    listed = []
    for path in strange[:SHOWN]:
        near = get_close_matches(path, known, n=2)
        listed.append(f"{path} (nearest: {', '.join(near)})" if near else path)
    listed = summarise(listed, shown=SHOWN, unnamed=len(strange) - len(listed))
    return LoRAError(
        f"{file.path}: {len(strange)} of its {len(file.entries)} layers are not in this model; "
        f"--lora-allow-unmatched goes on without them:\n{listed}"
    )


def _nothing_error(file: LoRAFile, elsewhere: Sequence[str]) -> LoRAError:
    if not elsewhere:
        return LoRAError(
            f"{file.path}: none of its {len(file.entries)} layers is in this model, "
            f"the first is {next(iter(file.entries))}"
        )
    stream = "sound" if is_audio(elsewhere[0]) else "picture"
    return LoRAError(
        f"{file.path}: it changes only the {stream}'s layers, and this run makes no {stream}.\n"
        "Leave it out, or make both picture and sound"
    )
