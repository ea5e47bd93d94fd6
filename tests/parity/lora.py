"""Golden components of LoRA: fused weights, and the transformer with adapters on it."""

import mlx.core as mx
from mlx.utils import tree_flatten

from ltx_models.lora.adapters import Strength, attach, fuse
from ltx_models.lora.files import LoRAFile, read_lora
from ltx_models.transformer import load_transformer
from tests.parity.case import Case
from tests.parity.transformer import run


def loras(case: Case) -> list[tuple[LoRAFile, Strength]]:
    return [
        (read_lora(case.folder / name), Strength(strength))
        for name, strength in case.params["loras"]
    ]


def lora_fusion(case: Case) -> dict[str, mx.array]:
    model = load_transformer(case.checkpoint, dtype=mx.float32)
    fit = fuse(model, loras(case)).fit
    assert sorted(f"{path}.weight" for path in fit.placed) == sorted(case.params["affected"])
    weights = dict(tree_flatten(model.parameters()))
    return {key: weights[key] for key in case.params["keys"]}


def transformer_lora(case: Case) -> dict[str, mx.array]:
    attached, fused = (load_transformer(case.checkpoint, dtype=mx.float32) for _ in range(2))
    attach(attached, loras(case))
    fuse(fused, loras(case))
    found, same = run(attached, case), run(fused, case)
    for name, tolerance in case.tolerance.items():
        assert mx.allclose(found[name], same[name], **tolerance), f"{name}: attached is not fused"
    return found


COMPONENTS = {"lora_fusion": lora_fusion, "transformer_lora": transformer_lora}
