"""What a file has for one module: of which family, how large, and with what scale.

Told from the header and the few scalars alone (spec/lora_files.md 4.1, 4.2).
"""

import re
from collections.abc import Mapping
from typing import NamedTuple

from ltx_models.weights import Shape

FACTORS = {  # which parts make a family's update; where there are several ways, each of them
    "LoRA": ({"lora_A", "lora_B"}, {"lora_a", "lora_b"}),
    "LoHa": ({"hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b"},),
    "LoKr": tuple(
        {*first, *second}
        for first in (("lokr_w1",), ("lokr_w1_a", "lokr_w1_b"))
        for second in (("lokr_w2",), ("lokr_w2_a", "lokr_w2_b"))
    ),
    "full": ({"diff"}, {"diff_b"}, {"diff", "diff_b"}),
}
BESIDE = {  # what may come on top
    "LoRA": {"alpha", "magnitude", "diff_b"},
    "LoHa": {"alpha", "magnitude", "diff_b"},
    "LoKr": {"alpha", "magnitude", "diff_b"},
    "full": {"alpha"},
}
STARTS = {"lora_": "LoRA", "hada_": "LoHa", "lokr_": "LoKr"}
SCALAR = ((), (1,))


class Scaling(NamedTuple):
    """What is said of the scales of a file's updates outside its tensors; PEFT's words."""

    alpha: float | None = None
    rank: int | None = None
    alpha_pattern: Mapping[str, float] = {}  # by the end of a module's name, a regular expression
    rank_pattern: Mapping[str, int] = {}
    rslora: bool = False
    scale: float | None = None  # mlx-lm's, which stands for alpha / rank

    def of(self, module: str, *, alpha: float | None, rank: int) -> float:
        """What strength 1 multiplies a module's update with; ``alpha`` and ``rank`` its tensors'.

        ``rank`` is 0 where they have none: then an alpha of theirs says nothing.
        """
        if self.scale is not None:
            return self.scale
        if alpha is None:
            alpha = _matching(self.alpha_pattern, module, self.alpha)
            rank = rank or _matching(self.rank_pattern, module, self.rank) or 0
        if alpha is None or not rank:
            return 1.0
        return alpha / rank**0.5 if self.rslora else alpha / rank


class Entry(NamedTuple):
    """What a file has for one module."""

    family: str  # of FACTORS
    keys: Mapping[str, str]  # by part
    rank: int  # 0 where nothing is factored
    shape: Shape | None  # of the weight that is changed, (out, in); None: only its bias is
    bias_shape: Shape | None
    alpha: float | None
    scale: float  # what strength 1 multiplies the update with


def family_of(module: str, keys: Mapping[str, str]) -> str:
    """The family of a module's parts. Raises ValueError where they are half of one, or of two."""
    there = ", ".join(sorted(keys.values()))
    families = {STARTS[part[:5]] for part in keys if part[:5] in STARTS}
    if len(families) > 1 or (families and "diff" in keys):
        raise ValueError(f"{module}: parts of more than one family: {there}")
    family = families.pop() if families else "full"
    factors = keys.keys() - BESIDE[family] if family != "full" else keys.keys() - {"alpha"}
    ways = FACTORS[family]
    if factors in ways:
        return family
    if strange := factors - set().union(*ways):
        raise ValueError(f"{module}: {keys[min(strange)]} without a LoRA that it belongs to")
    nearest = min(ways, key=lambda way: (len(way - factors), -len(way & factors)))
    missing = sorted(nearest - factors)
    if not missing:
        raise ValueError(f"{module}: parts that exclude each other: {there}")
    if family == "full":  # an alpha alone
        missing = ["lora_A", "lora_B"]
    raise ValueError(f"{module}: no {' and no '.join(missing)} beside {there}")


def read_entry(
    module: str,
    keys: Mapping[str, str],
    shapes: Mapping[str, Shape],
    *,
    alpha: float | None,
    scaling: Scaling,
) -> Entry:
    """Fit a module's parts to each other; ``shapes`` by key.

    Raises ValueError with what does not fit.
    """
    family = family_of(module, keys)
    sizes = {part: shapes[key] for part, key in keys.items()}
    if "alpha" in sizes and sizes["alpha"] not in SCALAR:
        raise ValueError(f"{keys['alpha']}: {sizes['alpha']}, not one number")
    shape, rank = _SIZES[family](module, sizes)
    bias = sizes.get("diff_b")
    if bias is not None and len(bias) != 1:
        raise ValueError(f"{keys['diff_b']}: {bias}; (out,) would fit")
    if "magnitude" in sizes and shape is not None:
        rows, columns = shape
        wanted = [(rows,), (rows, 1), (1, columns)]
        if sizes["magnitude"] not in wanted:
            fit = " or ".join(map(str, wanted))
            raise ValueError(f"{keys['magnitude']}: {sizes['magnitude']}; {fit} would fit")
    return Entry(
        family=family,
        keys=dict(keys),
        rank=rank,
        shape=shape,
        bias_shape=bias,
        alpha=alpha,
        scale=scaling.of(module, alpha=alpha, rank=rank) if family != "full" else 1.0,
    )


def _matching(pattern: Mapping, module: str, default):
    """PEFT's rule: the first expression that the end of a module's name matches."""
    for end, value in pattern.items():
        if re.fullmatch(rf"(.*\.)?({end})", module):
            return value
    return default


def _product(
    module: str, sizes: Mapping[str, Shape], left: str, right: str
) -> tuple[int, int, int]:
    """Rows, columns and rank of left @ right."""
    (a, b) = sizes[left], sizes[right]
    if len(a) != 2 or len(b) != 2 or a[1] != b[0] or a[1] < 1:
        names = f"({right} (rank, in), {left} (out, rank))"
        raise ValueError(f"{module}: {right} {b} and {left} {a} do not multiply {names}")
    return a[0], b[1], a[1]


def _lora_sizes(module: str, sizes: Mapping[str, Shape]) -> tuple[Shape, int]:
    if "lora_a" in sizes:  # (in, rank) and (rank, out)
        columns, rows, rank = _product(module, sizes, "lora_a", "lora_b")
        return (rows, columns), rank
    down, up = sizes["lora_A"], sizes["lora_B"]
    if len(down) != 2 or len(up) != 2 or down[0] != up[1] or down[0] < 1:
        raise ValueError(
            f"{module}: lora_A {down} and lora_B {up}; (rank, in) and (out, rank) would fit"
        )
    return (up[0], down[1]), down[0]


def _loha_sizes(module: str, sizes: Mapping[str, Shape]) -> tuple[Shape, int]:
    *first, rank = _product(module, sizes, "hada_w1_a", "hada_w1_b")
    *second, _ = _product(module, sizes, "hada_w2_a", "hada_w2_b")
    if first != second:
        raise ValueError(f"{module}: halves of sizes {tuple(first)} and {tuple(second)}; equal fit")
    return tuple(first), rank


def _lokr_sizes(module: str, sizes: Mapping[str, Shape]) -> tuple[Shape, int]:
    halves, rank = [], 0
    for half in ("lokr_w1", "lokr_w2"):
        if half in sizes:
            if len(sizes[half]) != 2:
                raise ValueError(f"{module}: {half} {sizes[half]}; two dimensions would fit")
            halves.append(sizes[half])
        else:
            *size, rank = _product(module, sizes, f"{half}_a", f"{half}_b")
            halves.append(tuple(size))
    (a, b), (c, d) = halves
    return (a * c, b * d), rank


def _full_sizes(_module: str, sizes: Mapping[str, Shape]) -> tuple[Shape | None, int]:
    return sizes.get("diff"), 0


_SIZES = {"LoRA": _lora_sizes, "LoHa": _loha_sizes, "LoKr": _lokr_sizes, "full": _full_sizes}
