"""Every key of the schema is acted upon: some code outside ltx_train/config reads it.

A section's key counts behind its section's name (``config.validation.seed``, ``validation.seed``)
or one that stands for it (a parameter of its type, ``flow = config.flow_matching``); a key of a
stream, a condition or a sample behind any name. A method of a section that is called outside
counts as what it reads.
"""

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel

import ltx_train
from ltx_train.config import TrainConfig
from ltx_train.config.problems import members_of

PACKAGE = Path(ltx_train.__file__).parent
ITEM = "*"  # in place of a section's name, for what is no section of a run


def sections(kind: type[BaseModel], names: set[str]) -> Iterator[tuple[type[BaseModel], set[str]]]:
    """Each section's class, with the names that its keys are read behind."""
    yield kind, {*names, kind.__name__}
    for key, field in kind.model_fields.items():
        for nested in inner(field.annotation):
            top = kind is TrainConfig
            yield from sections(nested, {key} if top else {ITEM})


def inner(annotation: Any) -> list[type[BaseModel]]:
    """The sections that a key holds; a union's and a tuple's members."""
    found = []
    for each in members_of(annotation):
        if get_origin(each) is tuple:
            found += inner(get_args(each)[0])
        elif isinstance(each, type) and issubclass(each, BaseModel):
            found.append(each)
    return found


def leaves() -> dict[tuple[str, str], set[str]]:
    """Class and key of each value that can be chosen, with the names it is read behind."""
    found: dict[tuple[str, str], set[str]] = {}
    for kind, names in sections(TrainConfig, {"config", "self"}):
        for key, field in kind.model_fields.items():
            fixed = get_origin(field.annotation) is Literal and len(get_args(field.annotation)) == 1
            if not fixed and not inner(field.annotation):
                found.setdefault((kind.__name__, key), set()).update(names)
    return found


def reads(tree: ast.AST) -> set[tuple[str, str]]:
    """Each attribute that is read, and the name or type that it is read of."""
    types = {
        arg.arg: ast.unparse(arg.annotation).split(".")[-1]
        for arg in ast.walk(tree)
        if isinstance(arg, ast.arg) and arg.annotation is not None
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Attribute):
            types |= {
                each.id: node.value.attr for each in node.targets if isinstance(each, ast.Name)
            }
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            of = node.value
            name = of.id if isinstance(of, ast.Name) else getattr(of, "attr", "")
            found |= {(name, node.attr), (types.get(name, name), node.attr)}
    return found


def functions(path: Path) -> Iterator[ast.AST]:
    """Each function of a module alone, as its parameters have types of their own."""
    tree = ast.parse(path.read_text())
    yield from (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef))


def all_reads() -> set[tuple[str, str]]:
    inside = PACKAGE / "config"
    found: set[tuple[str, str]] = set()
    for path in sorted(PACKAGE.rglob("*.py")):
        if not path.is_relative_to(inside):
            found = found.union(*map(reads, functions(path)))
    called = {attribute for _, attribute in found}
    for path in sorted(inside.rglob("*.py")):
        for kind in ast.walk(ast.parse(path.read_text())):
            for method in kind.body if isinstance(kind, ast.ClassDef) else []:
                if isinstance(method, ast.FunctionDef) and method.name in called:
                    found |= {(kind.name, key) for of, key in reads(method) if of == "self"}
                    found |= {read for read in reads(method) if read[0] != "self"}
    return found


def test_every_key_is_read():
    found = all_reads()
    anywhere = {key for _, key in found}
    unread = [
        f"{kind}.{key}"
        for (kind, key), names in leaves().items()
        if not (key in anywhere if ITEM in names else any((name, key) in found for name in names))
    ]
    assert unread == []


def test_the_search_would_find_one_that_is_not():
    leaf = leaves()
    assert leaf["OptimizationConfig", "steps"] == {"optimization", "OptimizationConfig"}
    assert ("Prefix", "temporal_boundary") in leaf
    assert ("ValidationSample", "seed") in leaf
    assert ("TrainConfig", "seed") in leaf
    assert ("Prefix", "type") not in leaf
    tree = ast.parse("def f(given: WandbConfig): a = config.hub; return given.tags, lora.rank, a.b")
    assert reads(tree) >= {("WandbConfig", "tags"), ("lora", "rank"), ("hub", "b")}
