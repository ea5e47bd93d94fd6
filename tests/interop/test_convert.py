"""What ltx-lora convert writes, loaded by diffusers and by peft: each adds what the source adds."""

from pathlib import Path
from typing import NamedTuple

import mlx.core as mx
import numpy as np
import pytest

from ltx_models.files import write_tensors
from ltx_models.lora.convert import Form, converted
from ltx_models.lora.files import read_lora
from ltx_models.lora.linear import linears, weight_shape
from ltx_models.lora.names import diffusers_name
from tests.interop.test_adapter import DIFFUSERS, PEFT, SAME, Written, assert_same, loaded
from tests.models.transformer.sizes import SMALL, small_transformer

pytestmark = pytest.mark.interop
ALPHA = 6.0
# Of diffusers' own pipeline: the metadata goes with the tensors.
WITH_METADATA = DIFFUSERS.replace(
    "tensors = LTX2LoraLoaderMixin.lora_state_dict(path)",
    "tensors, about = LTX2LoraLoaderMixin.lora_state_dict(path, return_lora_metadata=True)\n"
    "assert about",
).replace("tensors, model, adapter_name", "tensors, model, metadata=about, adapter_name")


class Source(NamedTuple):
    """A file of kohya's kind on every linear layer: two ranks, and an alpha that is neither."""

    path: Path
    deltas: dict[str, np.ndarray]


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> Source:
    draw, tensors, deltas = np.random.default_rng(0), {}, {}
    for number, (name, layer) in enumerate(linears(small_transformer("ltx23")).items()):
        rank, (rows, columns) = (4 if number % 5 else 2), weight_shape(layer)
        A = draw.normal(size=(rank, columns)).astype(np.float32)
        B = draw.normal(size=(rows, rank)).astype(np.float32)
        at = f"lora_unet_{name.replace('.', '_')}"
        tensors |= {f"{at}.lora_down.weight": A, f"{at}.lora_up.weight": B}
        tensors[f"{at}.alpha"] = np.float32(ALPHA)
        deltas[name] = ALPHA / rank * B.astype(np.float64) @ A.astype(np.float64)
    path = tmp_path_factory.mktemp("source") / "kohya.safetensors"
    mx.save_safetensors(str(path), {key: mx.array(value) for key, value in tensors.items()})
    return Source(path, deltas)


def written(source: Source, form: Form, folder: Path) -> Written:
    made = converted(read_lora(source.path), form)
    write_tensors(folder / "a.safetensors", made.tensors, made.metadata)
    return Written(folder / "a.safetensors", "ltx23", source.deltas)


@pytest.mark.parametrize(
    ("form", "script"),
    [("ours", DIFFUSERS), ("diffusers", DIFFUSERS), ("diffusers", WITH_METADATA)],
)
def test_diffusers_adds_what_the_source_adds(form, script, source, tmp_path):
    flags = ("gated_attn", "audio_gated_attn", "cross_attn_mod", "audio_cross_attn_mod")
    sizes = {**{name: SMALL[name] for name in SAME}, **dict.fromkeys(flags, True)}
    sizes["use_prompt_embeddings"] = False
    found = loaded(script, written(source, form, tmp_path), sizes)
    wanted = {diffusers_name(name): delta for name, delta in source.deltas.items()}
    assert found.keys() == wanted.keys()
    for name, delta in wanted.items():  # the base's weights were added and taken away again
        assert np.abs(found[name] - delta).max() <= 2e-6 * np.abs(delta).max() + 1e-6, name


def test_peft_adds_what_the_source_adds(source, tmp_path):
    """Of one rank for all layers, as PEFT is told here; the scale is in lora_B."""
    file = read_lora(written(source, "ours", tmp_path).path)
    chosen = {name: source.deltas[name] for name, e in file.entries.items() if e.rank == 4}
    keys = [key for name in chosen for key in file.entries[name].keys.values()]
    own = Written(tmp_path / "of one rank.safetensors", "ltx23", chosen)
    write_tensors(own.path, file.file.tensors("", keys), file.metadata)
    assert len(chosen) > 50
    assert_same(loaded(PEFT, own, {name: delta.shape for name, delta in chosen.items()}), chosen)
