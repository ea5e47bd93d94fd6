"""LoRA files in the forms that programs read (spec/lora_files.md 4.2).

"ours"       diffusion_model.<layer>.lora_A.weight, .lora_B.weight; the scale is in lora_B
"diffusers"  the same under diffusers' names, with PEFT's configuration in the metadata
"comfyui"    diffusion_model.<layer>.lora_down.weight, .lora_up.weight, .alpha, as kohya's trainers
             have them; and every other family, under the names that ComfyUI has for its parts

ComfyUI reads ours as well. Nothing is rounded: where a scale cannot be put into lora_B exactly in
the type that it has, lora_B is float32.
"""

import json
from collections.abc import Mapping
from statistics import mode
from typing import Literal, NamedTuple, cast

import mlx.core as mx
import mlx.nn as nn

from ltx_models.lora.about import PEFT_METADATA, RSLORA
from ltx_models.lora.entries import Entry
from ltx_models.lora.files import KEY_PREFIX, LoRAError, LoRAFile
from ltx_models.lora.fit import match, nearest
from ltx_models.lora.names import diffusers_name, released_names
from ltx_models.lora.scrambled import restored
from ltx_models.lora.updates import Update, update_of

Form = Literal["ours", "comfyui", "diffusers"]
PLAIN = ("lora_A", "lora_B")
COMFYUI = {"lora_A": "lora_down.weight", "lora_B": "lora_up.weight", "magnitude": "dora_scale"}
# Of the file as it was, or said again by what is written.
LEFT_OUT = {
    PEFT_METADATA,
    *RSLORA,
    *(f"ss_{key}" for key in RSLORA),
    "ss_network_alpha",
    "ss_network_dim",
    "modelspec.hash_sha256",
    "sshs_model_hash",
    "sshs_legacy_hash",
}


class Converted(NamedTuple):
    """What a file of another form has."""

    tensors: Mapping[str, mx.array]
    metadata: Mapping[str, str]


def converted(file: LoRAFile, form: Form, *, repair: bool = False) -> Converted:
    """A file in another form; its updates are the same, bit for bit where they were plain LoRA.

    ``repair`` puts scrambled factors right. Raises LoRAError for a layer that no LTX-2 has, for
    what the form cannot say, and for a repair of what does not look scrambled.
    """
    if repair and not file.scrambled:
        raise LoRAError(f"{file.path}: its factors do not look scrambled; convert it as it is")
    paths, whole = _paths(file), _tensors(file, repair=repair)
    tensors: dict[str, mx.array] = {}
    ranks: dict[str, int] = {}  # by the names that are written
    for path, name in paths.items():
        entry = file.entries[name]
        if form == "comfyui":
            tensors |= _as_comfyui(f"{KEY_PREFIX}{path}", entry, whole)
            continue
        A, B = _plain(file, name, update_of(entry, whole), form)
        at = f"{KEY_PREFIX}{path}" if form == "ours" else _diffusers_key(path)
        tensors |= {f"{at}.lora_A.weight": A, f"{at}.lora_B.weight": B}
        ranks[at] = len(A)
    about = {key: value for key, value in file.metadata.items() if key not in LEFT_OUT}
    if form == "diffusers":
        about[PEFT_METADATA] = json.dumps(_peft_configs(ranks), sort_keys=True)
    return Converted(tensors, {"format": "pt", **about})


def _paths(file: LoRAFile) -> Mapping[str, str]:
    """The file's names for layers by their paths. Raises LoRAError where there is none."""
    names = released_names()
    matched = match(file, names, nn.Module())
    if matched.unmatched:
        raise LoRAError(
            f"{file.path}: {len(matched.unmatched)} of its {len(file.entries)} layers are in no "
            f"LTX-2:\n{nearest(matched, names.paths)}"
        )
    return matched.found


def _tensors(file: LoRAFile, *, repair: bool) -> dict[str, mx.array]:
    """The tensors of a file by key, lazily, without alphas."""
    keys = {
        part: [entry.keys[part] for entry in file.entries.values() if part in entry.keys]
        for part in {part for entry in file.entries.values() for part in entry.keys} - {"alpha"}
    }
    found = file.file.tensors("", [key for own in keys.values() for key in own])
    if repair:
        found |= {key: restored(found[key]) for part in PLAIN for key in keys.get(part, ())}
    return found


def _plain(file: LoRAFile, name: str, update: Update, form: Form) -> tuple[mx.array, mx.array]:
    """lora_A and lora_B of an update whose scale is 1, of their own types unless B has to grow.

    LoHa of small rank is such a product, of its rank squared.
    """
    others = (update.kron, update.dense, update.bias, update.magnitude)
    if update.low_rank is None or any(other is not None for other in others):
        raise LoRAError(
            f"{file.path}: {name} is {', '.join(sorted(set(file.entries[name].keys) - {'alpha'}))}"
            f", which is no plain LoRA, and {form} has nothing else.\n"
            "--to comfyui keeps it as it is"
        )
    A, B, scale = update.low_rank
    return A, _scaled(B, scale)


def _scaled(x: mx.array, scale: float) -> mx.array:
    """A tensor times its scale, in its own type where that is exact, else in float32."""
    if scale == 1:
        return x
    wanted = scale * x.astype(mx.float32)
    rounded = wanted.astype(x.dtype)
    return rounded if mx.array_equal(rounded.astype(mx.float32), wanted).item() else wanted


def _as_comfyui(at: str, entry: Entry, tensors: Mapping[str, mx.array]) -> dict[str, mx.array]:
    """A module's parts under ComfyUI's names; its alpha divided by its rank is the scale."""
    parts = {part: tensors[key] for part, key in entry.keys.items() if part != "alpha"}
    for theirs, ours in (("lora_a", "lora_A"), ("lora_b", "lora_B")):
        if theirs in parts:
            parts[ours] = parts.pop(theirs).T
    if "magnitude" in parts and parts["magnitude"].ndim == 1:
        parts["magnitude"] = parts["magnitude"][:, None]
    found = {f"{at}.{COMFYUI.get(part, part)}": value for part, value in parts.items()}
    if entry.rank:
        found[f"{at}.alpha"] = mx.array(entry.scale * entry.rank, mx.float32)
    return found


def _diffusers_key(path: str) -> str:
    name = diffusers_name(path)
    return name if name.startswith("connectors.") else f"transformer.{name}"


def _peft_configs(ranks: Mapping[str, int]) -> dict[str, object]:
    """PEFT's configuration of each component, by its keys as diffusers writes them.

    alpha is the rank, as the scale is in lora_B.
    """
    found: dict[str, object] = {}
    for component in sorted({key.split(".")[0] for key in ranks}):
        own = {k.partition(".")[2]: r for k, r in ranks.items() if k.startswith(f"{component}.")}
        usual = cast(int, mode(own.values()))
        others = {name: rank for name, rank in own.items() if rank != usual}
        config = {
            "r": usual,
            "lora_alpha": usual,
            "rank_pattern": others,
            "alpha_pattern": others,
            "target_modules": sorted(own),
        }
        found |= {f"{component}.{key}": value for key, value in config.items()}
    return found
