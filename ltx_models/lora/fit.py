"""Whether LoRA files fit a model: every module that they name is found, or the run stops."""

from collections.abc import Collection, Mapping, Sequence
from difflib import get_close_matches
from typing import NamedTuple

import mlx.core as mx
import mlx.nn as nn

from ltx_models.config import summarise
from ltx_models.errors import printable
from ltx_models.lora.about import made_for
from ltx_models.lora.entries import Entry
from ltx_models.lora.files import LoRAError, LoRAFile, is_audio
from ltx_models.lora.linear import linears, weight_shape
from ltx_models.lora.names import Names, in_text_path, list_names, model_names, places
from ltx_models.transformer.config import TransformerConfig
from ltx_models.transformer.model import Transformer
from ltx_models.weights import Shape

SHOWN = 2  # layers in a message


class Fit(NamedTuple):
    """What became of the layers that the files name, by their paths."""

    placed: tuple[str, ...]  # in the model, each once, however many files change it
    passed_over: tuple[str, ...]  # of the stream that the model was built without
    unmatched: tuple[str, ...]  # of no model like this; only under ``allow_unmatched``
    text_path: tuple[str, ...]  # of connectors and text projection, when those are not the model
    names: tuple[Mapping[str, str], ...]  # of each file: its names for the layers placed, by path


class Match(NamedTuple):
    """What a file's modules are in a model: nothing is raised for what does not fit."""

    found: Mapping[str, str]  # the file's name by path, of all that an LTX-2 of these sizes has
    unmatched: tuple[str, ...]  # the file's names
    misshapen: tuple[str, ...]  # one line each


def match(file: LoRAFile, names: Names, module: nn.Module) -> Match:
    """Find the layers of a file's modules, and compare the sizes of those that ``module`` has.

    Raises LoRAError where a name is ambiguous, and where two names mean one layer.
    """
    found: dict[str, str] = {}
    unmatched, misshapen, targets = [], [], _targets(module)
    for name, entry in file.entries.items():
        meant = names.find(name)
        if len(meant) > 1:
            raise LoRAError(f"{file.path}: {name} may be {' or '.join(sorted(meant))}")
        if not meant:
            unmatched.append(name)
            continue
        (path,) = meant
        if path in found:
            raise LoRAError(f"{file.path}: {found[path]} and {name} are both for {path}")
        found[path] = name
        if path in targets and (problem := _misfit(path, entry, targets[path])):
            misshapen.append(problem)
    return Match(found, tuple(unmatched), tuple(misshapen))


def fit_loras(
    model: Transformer, files: Sequence[LoRAFile], *, allow_unmatched: bool = False
) -> Fit:
    """Find the layer of each module that the files name; reads no tensor.

    Raises LoRAError where there is none (unless ``allow_unmatched``), where sizes differ, and for
    a file that would change nothing. Layers of the text path are only counted: ``fit_text_path``.
    """
    here = places(model)
    names = list_names(here)
    if any(not names.find(name) for file in files for name in file.entries):
        names = model_names(model.config)
    placed: dict[str, None] = {}
    passed_over, unmatched, text_path, chosen = [], [], [], []
    for file in files:
        matched = match(file, names, model)
        own = {path: name for path, name in matched.found.items() if path in here}
        text = [path for path in matched.found if in_text_path(path)]
        elsewhere = [path for path in matched.found if path not in own and path not in text]
        if matched.unmatched and not allow_unmatched:
            raise _unmatched_error(file, matched, names.paths)
        if not own and not text:
            raise _nothing_error(file, elsewhere)
        _check_shapes(file, matched)
        chosen.append(own)
        placed |= dict.fromkeys(own)
        passed_over += elsewhere
        unmatched += matched.unmatched
        text_path += text
    return Fit(tuple(placed), tuple(passed_over), tuple(unmatched), tuple(text_path), tuple(chosen))


def fit_text_path(modules: nn.Module, files: Sequence[LoRAFile], config: TransformerConfig) -> Fit:
    """``fit_loras`` for some of connectors and text projection; what is elsewhere is passed by.

    ``modules`` has them under their names in a checkpoint. Raises LoRAError where sizes differ.
    """
    here, names = places(modules), model_names(config)
    placed: dict[str, None] = {}
    chosen = []
    for file in files:
        matched = match(file, names, modules)
        _check_shapes(file, matched)
        chosen.append({path: name for path, name in matched.found.items() if path in here})
        placed |= dict.fromkeys(chosen[-1])
    return Fit(tuple(placed), (), (), (), tuple(chosen))


def text_path(modules: Mapping[str, nn.Module]) -> nn.Module:
    """Some of connectors and text projection as one module, by their names in a checkpoint."""
    model = nn.Module()
    for name, module in modules.items():
        model[name] = module
    return model


class _Target(NamedTuple):
    weight: Shape
    linear: bool


def _targets(module: nn.Module) -> dict[str, _Target]:
    layers = linears(module)
    found = {path: _Target(weight_shape(layer), linear=True) for path, layer in layers.items()}
    for path in places(module) - found.keys():
        found[path] = _Target(own_weight(module, path).shape, linear=False)
    return found


def own_weight(module: nn.Module, path: str) -> mx.array:
    """The weight of a norm, or a table itself, by its path."""
    at = module
    for part in path.split("."):
        at = at[int(part)] if isinstance(at, list) else at[part]
    return at["weight"] if isinstance(at, nn.Module) else at


def _misfit(path: str, entry: Entry, target: _Target) -> str | None:
    if entry.family != "full" and not target.linear:
        return f"{path}: a {entry.family} in the file, and no linear layer in the model"
    if entry.shape is not None and entry.shape != target.weight:
        return f"{path}: {entry.shape} in the file, {target.weight} in the model"
    if entry.bias_shape is not None:
        if not target.linear:
            return f"{path}: a bias in the file, none in the model"
        if entry.bias_shape != target.weight[:1]:
            return f"{path}: bias {entry.bias_shape} in the file, {target.weight[:1]} in the model"
    return None


def _check_shapes(file: LoRAFile, matched: Match) -> None:
    if matched.misshapen:
        listed = summarise(list(matched.misshapen), shown=SHOWN)
        raise LoRAError(f"{file.path} was made for a model of other sizes:\n{listed}")


def nearest(matched: Match, known: Collection[str]) -> str:
    """The names of a file that fit nowhere, some of them, with the nearest that there are."""
    listed = []
    for name in matched.unmatched[:SHOWN]:
        near = get_close_matches(name, known, n=2)
        listed.append(f"{name} (nearest: {', '.join(near)})" if near else name)
    return summarise(listed, shown=SHOWN, unnamed=len(matched.unmatched) - len(listed))


def _unmatched_error(file: LoRAFile, matched: Match, known: Collection[str]) -> LoRAError:
    made = made_for(file.metadata)
    words = "" if made is None else printable(made.words, longest=60)
    hint = f", and its metadata says {words}" if words else ""
    if matched.found:  # else nothing would be left
        hint = "; --lora-allow-unmatched goes on without them"
    return LoRAError(
        f"{file.path}: {len(matched.unmatched)} of its {len(file.entries)} layers are not in this "
        f"model{hint}:\n{nearest(matched, known)}"
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
