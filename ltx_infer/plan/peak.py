"""The most memory that a tape takes while MLX evaluates it.

MLX puts operations in an order of its own, gives a result the buffer of an input that nothing else
needs, and queues operations ahead of those that are computed: buffers go back only when the device
has come by. All of this is followed here, for a device that is slower than its queue.
"""

from collections import Counter, deque
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from ltx_infer.plan.tape import Operation, Spec, Tape
from ltx_infer.plan.views import (
    COPIES_LIMIT,
    VIEWS,
    View,
    extent,
    in_order,
    matrix_in_order,
    split,
    whole,
)

WIDTH = 20  # of the breadth-first walk by which MLX orders operations
# Tasks that are queued before MLX waits for one, less the one that is computed meanwhile.
ACTIVE_TASKS = 9


class Pace(NamedTuple):
    """When a device takes queued work on: a task is so many pieces, or reads so many bytes."""

    pieces: int
    num_bytes: int | None = None
    on_gpu: bool = False  # attention in one piece, convolutions without a copy of what they see


CPU = Pace(pieces=10)
GPU = Pace(pieces=50, num_bytes=50 << 20, on_gpu=True)

ELEMENTWISE = {
    *("Abs", "Add", "AsType", "Cos", "Divide", "Exp", "Log", "Maximum", "Minimum", "Multiply"),
    *("Negative", "Power", "RMSNorm", "Select", "Sigmoid", "Sin", "Softmax", "Sqrt", "Square"),
    *("Subtract", "Tanh", "Erf", "Log1p", "LayerNorm", "SliceUpdate", "Sign", "Floor"),
}
SHARING = {*VIEWS, "Split"}
PRODUCTS = {"Matmul", "AddMM", "QuantizedMatmul", "ScaledDotProductAttention"}


# More pieces of a convolution along so many axes, on a CPU; found by measuring.
CONVOLVING = {1: 0, 2: 1, 3: 4}


class _Buffer:
    """Memory, and how many arrays and queued operations need it."""

    __slots__ = ("needed", "size")

    def __init__(self, size: int):
        self.size = size
        self.needed = 0


class _Memory:
    """What is allocated, the most that was, and what is queued."""

    def __init__(self, pace: Pace, limit: int | None):
        self.pace, self.limit = pace, limit
        self.active = self.most = 0
        self.queue: deque[tuple[list[_Buffer], bool]] = deque()  # and whether a task ends there
        self.tasks = self.pieces = self.bytes = 0

    def allocate(self, size: int) -> _Buffer:
        self.active += size
        self.most = max(self.most, self.active)
        return _Buffer(size)

    def need(self, buffer: _Buffer) -> None:
        buffer.needed += 1

    def release(self, buffer: _Buffer) -> None:
        buffer.needed -= 1
        if buffer.needed == 0:
            self.active -= buffer.size

    def queued(self, buffers: Iterable[_Buffer], *, pieces: int, num_bytes: int) -> None:
        """Keep buffers until the device has done what was queued now; wait where MLX does."""
        held = list(buffers)
        for buffer in held:
            self.need(buffer)
        self.pieces += pieces
        self.bytes += num_bytes
        most = self.pace.num_bytes
        ends = self.pieces >= self.pace.pieces or (most is not None and self.bytes > most)
        if ends:
            self.pieces = 0 if most is not None else self.pieces % self.pace.pieces
            self.bytes = 0
            self.tasks += 1
        self.queue.append((held, ends))
        while self.tasks > ACTIVE_TASKS or (self._is_full() and self.tasks):
            self.take()

    def _is_full(self) -> bool:
        return self.limit is not None and self.active > self.limit

    def take(self) -> None:
        """Let the device finish a task."""
        while self.queue:
            held, ends = self.queue.popleft()
            for buffer in held:
                self.release(buffer)
            if ends:
                self.tasks -= 1
                return


class _Array(NamedTuple):
    buffer: _Buffer
    view: View


def peak(tape: Tape, *, pace: Pace, limit: int | None = None) -> int:
    """Bytes beside the arrays that are there at the start; results are among them."""
    memory = _Memory(pace, limit)
    unseen = _scores(tape) if pace.on_gpu else set()
    uses = Counter(name for each in tape.operations for name in each.inputs)
    uses.update(tape.outputs)
    arrays: dict[str, _Array] = {}
    made = {name for each in tape.operations for name in each.outputs}
    for name, spec in tape.arrays.items():
        if name not in made:
            buffer = _Buffer(0)
            buffer.needed = 2  # never given away
            arrays[name] = _Array(buffer, whole(spec.shape))
    for operation in in_turn(tape):
        _do(operation, tape.arrays, arrays, uses, memory, unseen)
    return memory.most


def _do(
    operation: Operation,
    specs: dict[str, Spec],
    arrays: dict[str, _Array],
    uses: Counter[str],
    memory: _Memory,
    unseen: set[str],
) -> None:
    given = [arrays[name] for name in operation.inputs]
    found = _results(operation, given, specs, uses, memory, unseen)
    for name, array in zip(operation.outputs, found, strict=True):
        arrays[name] = array
        memory.need(array.buffer)
    held = {id(each.buffer): each.buffer for each in given}
    for array in found:
        held.pop(id(array.buffer), None)
    copies = [
        memory.allocate(size)
        for size in _copies(operation, given, specs, on_gpu=memory.pace.on_gpu)
    ]
    memory.queued(
        [*held.values(), *copies],
        pieces=_pieces(operation, shares=_shares(given, found)) + len(copies),
        num_bytes=sum(each.buffer.size for each in given),
    )
    for name in operation.inputs:
        uses[name] -= 1
        if not uses[name]:
            memory.release(arrays.pop(name).buffer)
    for name in operation.outputs:
        if not uses[name]:
            memory.release(arrays.pop(name).buffer)


def _shares(given: Sequence[_Array], found: Sequence[_Array]) -> bool:
    """Whether a result lies in the buffer of an input, and nothing was computed."""
    return any(each.buffer is found[0].buffer for each in given)


def _pieces(operation: Operation, *, shares: bool) -> int:
    """How often an operation is counted in its device's queue, less its copies."""
    if shares and operation.name in SHARING:
        return 1
    if operation.name == "Convolution":
        return 2 + CONVOLVING[len(operation.arguments[0])]
    return 2


def _results(
    operation: Operation,
    given: Sequence[_Array],
    specs: dict[str, Spec],
    uses: Counter[str],
    memory: _Memory,
    unseen: set[str],
) -> list[_Array]:
    name, arguments = operation.name, operation.arguments
    if name == "Split":
        (source,) = given
        return [_Array(source.buffer, part) for part in split(source.view, *arguments)]
    if name in VIEWS:
        view = VIEWS[name](given[0].view, *arguments)
        if view is not None:
            return [_Array(given[0].buffer, view)]
    specified = [specs[output] for output in operation.outputs]
    if name in ELEMENTWISE and (buffer := _given_away(operation, given, specs, uses)):
        return [_Array(buffer, whole(specified[0].shape))]
    found = []
    for output, spec in zip(operation.outputs, specified, strict=True):
        size = 0 if output in unseen else spec.nbytes
        view = whole(spec.shape)
        if name in ELEMENTWISE and len(given) == 1 and extent(given[0].view) < given[0].view.size:
            view, size = given[0].view, extent(given[0].view) * spec.itemsize
        found.append(_Array(memory.allocate(size), view))
    return found


def _given_away(
    operation: Operation,
    given: Sequence[_Array],
    specs: dict[str, Spec],
    uses: Counter[str],
) -> _Buffer | None:
    """The buffer of an input that nothing else needs and that the result fits."""
    spec = specs[operation.outputs[0]]
    for name, array in zip(operation.inputs, given, strict=True):
        alone = uses[name] == 1 and array.buffer.needed == 1
        fits = specs[name].itemsize == spec.itemsize and specs[name].shape == spec.shape
        small = array.buffer.size <= spec.nbytes + COPIES_LIMIT
        if alone and fits and small and in_order(array.view):
            return array.buffer
    return None


def _copies(
    operation: Operation, given: Sequence[_Array], specs: dict[str, Spec], *, on_gpu: bool
) -> list[int]:
    """What an operation copies for itself, in bytes."""
    sizes = []
    if operation.name in PRODUCTS:
        for name, array in zip(operation.inputs[:2], given, strict=False):
            if not matrix_in_order(array.view):
                sizes.append(specs[name].nbytes)
    elif operation.name == "Convolution" and not on_gpu:
        sizes = _unfolded(operation, specs)
    return sizes


def _unfolded(operation: Operation, specs: dict[str, Spec]) -> list[int]:
    """On a CPU: the padded input, and the values under the kernel at every place."""
    source, weight = (specs[name] for name in operation.inputs)
    output = specs[operation.outputs[0]]
    (_, before, after, *_rest) = operation.arguments
    padded = source.itemsize * source.shape[0] * source.shape[-1]
    for side, a, b in zip(source.shape[1:-1], before, after, strict=True):
        padded *= side + a + b
    places = output.nbytes // output.shape[-1]
    kernel = weight.nbytes // weight.itemsize // weight.shape[0]
    return [*([padded] if any(before) or any(after) else []), places * kernel]


def _scores(tape: Tape) -> set[str]:
    """The arrays of attention's scores, which a device with attention in one piece never has."""
    makers = {name: each for each in tape.operations for name in each.outputs}
    found: set[str] = set()
    for each in tape.operations:
        if each.name != "Softmax":
            continue
        shape, name = tape.arrays[each.outputs[0]].shape, each.outputs[0]
        while (maker := makers.get(name)) and tape.arrays[name].shape == shape:
            found.add(name)
            if maker.name == "Matmul":
                break
            name = maker.inputs[0] if maker.name != "Select" else maker.inputs[1]
    return found


def in_turn(tape: Tape) -> list[Operation]:
    """The operations in MLX's order: from the results back, breadth first within limits."""
    makers = {name: i for i, each in enumerate(tape.operations) for name in each.outputs}
    inputs = [[makers[name] for name in each.inputs if name in makers] for each in tape.operations]
    roots = [makers[name] for name in tape.outputs if name in makers]
    waiting = _uses_from(roots, inputs)
    order: list[int] = [-1]
    above: list[tuple[int, int]] = []
    at = 0
    while waiting and (at < len(order) or above):
        if at >= len(order):
            node, first = above.pop()
        else:
            node, first = order[at], 0
            at += 1
        sources = roots if node < 0 else inputs[node]
        for number in range(first, len(sources)):
            source = sources[number]
            if source not in waiting:
                continue
            if len(order) - at >= WIDTH:
                above.append((node, number))
                break
            waiting[source] -= 1
            if not waiting[source]:
                del waiting[source]
                order.append(source)
    return [tape.operations[i] for i in reversed(order[1:])]


def _uses_from(roots: Sequence[int], inputs: Sequence[Sequence[int]]) -> dict[int, int]:
    """How often each operation's results are used on the way to the roots."""
    found: dict[int, int] = {}
    stack = list(roots)
    while stack:
        node = stack.pop()
        if node in found:
            found[node] += 1
            continue
        found[node] = 1
        stack.extend(inputs[node])
    return found
