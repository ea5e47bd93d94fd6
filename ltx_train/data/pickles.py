"""The pickles of tensors and plain values that torch.save writes, read without running anything.

A pickle is a program, and Python's own reader of it can be made to call anything, to fill the
memory, or to hang. So the reader here is another: it knows the few instructions that tensors and
plain values need, and no way to call anything.
"""

import math
import pickletools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

LARGEST_REPEATED = 1 << 24  # values of a tensor that has more than its storage
MOST_AXES = 8
# By the storage class in a pickle: the type as safetensors calls it, and as NumPy reads it.
STORAGES = {
    "BFloat16Storage": ("BF16", "u2"),
    "HalfStorage": ("F16", "f2"),
    "FloatStorage": ("F32", "f4"),
    "DoubleStorage": ("F64", "f8"),
    "CharStorage": ("I8", "i1"),
    "ShortStorage": ("I16", "i2"),
    "IntStorage": ("I32", "i4"),
    "LongStorage": ("I64", "i8"),
    "ByteStorage": ("U8", "u1"),
    "BoolStorage": ("BOOL", "u1"),
}


class ForbiddenError(Exception):
    """A pickle asks for what is not read here; the text names it."""


class Global(NamedTuple):
    """A name of Python's that a pickle asks for; here it stays a name."""

    module: str
    name: str

    def __str__(self) -> str:
        """As ``os.system``."""
        return _short(f"{self.module}.{self.name}")


class Storage(NamedTuple):
    """An entry of the zip, as the pickle describes it."""

    kind: str  # key of STORAGES
    key: str
    size: int  # values, not bytes


class View(NamedTuple):
    """A tensor: some values of a storage."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]  # values, not bytes


def unpickle(data: bytes) -> Any:
    """The value of a pickle; its tensors are Views.

    Raises ForbiddenError for anything but tensors and plain values, and ValueError or LookupError
    for a damaged pickle.
    """
    machine = Machine()
    for opcode, argument, _ in pickletools.genops(data):
        if opcode.name in IMPORTS:
            machine.stack.append(_allowed(IMPORTS[opcode.name](machine, argument)))
        elif opcode.name in ACTIONS:
            ACTIONS[opcode.name](machine, argument)
        elif opcode.name not in HARMLESS:
            raise ForbiddenError(_short(f"the instruction {opcode.name} {argument or ''}".rstrip()))
    (value,) = machine.stack
    return value


def _allowed(asked: Global) -> Global:
    if asked in CALLS or (asked.module == "torch" and asked.name in STORAGES):
        return asked
    raise ForbiddenError(str(asked))


def _short(text: str) -> str:
    """On one line and in ASCII, as a stranger chose it."""
    return ascii(text)[1:-1][:80]


class Machine:
    """What a pickle's instructions work on. Raises LookupError where it has not what they want."""

    def __init__(self):
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: dict[int, Any] = {}

    def pop(self, kind: type) -> Any:
        """The topmost value. Raises ValueError where it is of another kind."""
        return self.checked(self.stack.pop(), kind)

    def top(self, kind: type) -> Any:
        """As ``pop``, but the value stays."""
        return self.checked(self.stack[-1], kind)

    @staticmethod
    def checked(value: Any, kind: type) -> Any:
        """The value, if it is of this kind."""
        if not isinstance(value, kind):
            raise ValueError(f"its pickle has {type(value).__name__} for {kind.__name__}")
        return value

    def pop_marked(self) -> list[Any]:
        """All values from the last mark on."""
        start = self.marks.pop()
        values = self.stack[start:]
        del self.stack[start:]
        return values


def _tuple_of(count: int) -> Callable[[Machine, Any], None]:
    def make(machine: Machine, _: Any) -> None:
        values = tuple(machine.stack.pop() for _ in range(count))
        machine.stack.append(values[::-1])

    return make


def _set_items(machine: Machine, items: list[Any]) -> None:
    """Put keys and values, in turn, into the topmost mapping; keys are text."""
    mapping = machine.top(dict)
    for key, value in zip(items[::2], items[1::2], strict=True):
        mapping[machine.checked(key, str)] = value


def _set_item(machine: Machine, _: Any) -> None:
    value, key = machine.stack.pop(), machine.stack.pop()
    _set_items(machine, [key, value])


def _append(machine: Machine, _: Any) -> None:
    value = machine.stack.pop()
    machine.top(list).append(value)


def _extend(machine: Machine, _: Any) -> None:
    values = machine.pop_marked()
    machine.top(list).extend(values)


def _keep(machine: Machine, index: int | None) -> None:
    machine.memo[len(machine.memo) if index is None else index] = machine.stack[-1]


def _stack_global(machine: Machine, _: Any) -> Global:
    name, module = machine.pop(str), machine.pop(str)
    return Global(module, name)


def _make_storage(machine: Machine, _: Any) -> None:
    """A storage, of (the word "storage", its class, key, device, number of values)."""
    parts = machine.pop(tuple)
    if len(parts) != 5 or parts[0] != "storage":
        raise ValueError("its pickle refers to what is no storage")
    kind, key, size = (
        machine.checked(part, cls)
        for part, cls in zip((parts[1], parts[2], parts[4]), (Global, str, int), strict=True)
    )
    if kind.name not in STORAGES or not (key.isascii() and key.isdecimal()) or size < 0:
        raise ValueError(f"its pickle refers to the storage {key[:80]!r} of {size} values")
    machine.stack.append(Storage(kind.name, key, size))


def _reduce(machine: Machine, _: Any) -> None:
    """What stands for calling a name that is allowed: one of our functions makes the value."""
    arguments, called = machine.pop(tuple), machine.pop(Global)
    if called not in CALLS:
        raise ValueError(f"its pickle calls {called}")
    machine.stack.append(CALLS[called](*arguments))


def _make_view(*arguments: Any) -> View:
    """A tensor, of (storage, offset, shape, strides, two or three that change no value)."""
    storage, offset, shape, strides, *rest = arguments
    if not isinstance(storage, Storage) or len(rest) not in (2, 3):
        raise ValueError("its pickle describes a tensor in an unknown way")
    if not (isinstance(shape, tuple) and isinstance(strides, tuple)):
        raise ValueError("its pickle has a tensor without shape or strides")
    if not all(type(number) is int and number >= 0 for number in (offset, *shape, *strides)):
        raise ValueError("its pickle has a shape, a stride or an offset that is no count")
    view = View(storage, offset, shape, strides)
    _check_inside(view)
    return view


def _check_inside(view: View) -> None:
    """Raise ValueError for a tensor that reaches out of its storage, or is a small one blown up."""
    fits = len(view.shape) == len(view.strides) <= MOST_AXES
    count = math.prod(view.shape)
    if fits and count:
        steps = sum((size - 1) * step for size, step in zip(view.shape, view.strides, strict=True))
        fits = view.offset + steps < view.storage.size
    if not fits or count > max(view.storage.size, LARGEST_REPEATED):
        raise ValueError(f"its pickle has a tensor {view.shape} of {view.storage.size} values")


def _make_parameter(data: Any = None, *_: Any) -> View:
    if not isinstance(data, View):
        raise ValueError("its pickle has a parameter that is no tensor")
    return data


def _make_mapping(*arguments: Any) -> dict[str, Any]:
    if arguments:
        raise ValueError("its pickle makes a mapping in an unknown way")
    return {}


def _make_size(*arguments: Any) -> tuple[Any, ...]:
    (size,) = arguments
    return Machine.checked(size, tuple)


CALLS: Mapping[Global, Callable[..., Any]] = {
    Global("torch._utils", "_rebuild_tensor_v2"): _make_view,
    Global("torch._utils", "_rebuild_parameter"): _make_parameter,
    Global("collections", "OrderedDict"): _make_mapping,
    Global("torch", "Size"): _make_size,
}
HARMLESS = ("PROTO", "FRAME", "STOP")
VALUES = ("BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT")
TEXTS = ("BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8")
IMPORTS: Mapping[str, Callable[[Machine, Any], Global]] = {
    "GLOBAL": lambda _, said: Global(*said.split(" ", 1)),
    "STACK_GLOBAL": _stack_global,
}
ACTIONS: Mapping[str, Callable[[Machine, Any], None]] = {
    **dict.fromkeys((*VALUES, *TEXTS), lambda machine, value: machine.stack.append(value)),
    **dict.fromkeys(("BINPUT", "LONG_BINPUT", "MEMOIZE"), _keep),
    **dict.fromkeys(
        ("BINGET", "LONG_BINGET"), lambda machine, at: machine.stack.append(machine.memo[at])
    ),
    "NONE": lambda machine, _: machine.stack.append(None),
    "NEWTRUE": lambda machine, _: machine.stack.append(True),
    "NEWFALSE": lambda machine, _: machine.stack.append(False),
    "EMPTY_DICT": lambda machine, _: machine.stack.append({}),
    "EMPTY_LIST": lambda machine, _: machine.stack.append([]),
    "EMPTY_TUPLE": lambda machine, _: machine.stack.append(()),
    "MARK": lambda machine, _: machine.marks.append(len(machine.stack)),
    "TUPLE": lambda machine, _: machine.stack.append(tuple(machine.pop_marked())),
    "TUPLE1": _tuple_of(1),
    "TUPLE2": _tuple_of(2),
    "TUPLE3": _tuple_of(3),
    "APPEND": _append,
    "APPENDS": _extend,
    "SETITEM": _set_item,
    "SETITEMS": lambda machine, _: _set_items(machine, machine.pop_marked()),
    "BINPERSID": _make_storage,
    "REDUCE": _reduce,
}
