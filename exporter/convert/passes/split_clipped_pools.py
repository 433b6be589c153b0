"""Write an average pool whose padding does not count as pools without padding.

Targets that hold tensors channels last know two paddings: none, and SAME, which is computed
from the sizes. A window that is clipped at the picture's border by any other padding (that
of ceil_mode, say) averages over fewer pixels. Such windows are rectangles, so rows can be
averaged first and columns after them, and along one axis windows of one length in a row
are one pool of a slice:

    before: x [1, C, 6, 6] -> AveragePool(3x3, stride 2, padding (1, 1, 1, 1))
    after:  rows 0-1 -> AveragePool(2x1), rows 1-5 -> AveragePool(3x1, stride 2), Concat;
            columns likewise

In int8 all of that has one scale; only the second pool rounds once more.

Requires: nothing. Ensures: no average pool is left that clips windows in another way than
SAME does; outputs move by rounding only.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from exporter.convert.graph import AveragePool, Concat, Graph, Node, Pair, Slice
from exporter.convert.passes.rewriting import Outcome, Rewrite

Span = tuple[int, int]  # start <= index < stop
_AXES = (2, 3)


@dataclass(frozen=True)
class _Run:
    """Neighbouring windows of one length: together they cover `span`."""

    span: Span
    length: int
    count: int


def apply(graph: Graph) -> Outcome:
    """Replace every such pool by slices, pools and concatenations."""
    if not _waiting(graph):
        return graph, False
    nodes: list[Node] = []
    shapes = dict(graph.shapes)
    for node in graph.nodes:
        if isinstance(node, AveragePool) and _is_waiting(graph, node):
            nodes += _Splitting(node, shapes).nodes
        else:
            nodes.append(node)
    return replace(graph, nodes=tuple(nodes), shapes=shapes), True


def _waiting(graph: Graph) -> list[AveragePool]:
    return [n for n in graph.nodes if isinstance(n, AveragePool) and _is_waiting(graph, n)]


def _is_waiting(graph: Graph, node: AveragePool) -> bool:
    size, made = graph.shapes[node.inputs[0]][2:], graph.shapes[node.output][2:]
    if node.include_padding or not any(_is_clipped(node, i, size[i], made[i]) for i in (0, 1)):
        return False
    return not all(_is_same(node, i, size[i], made[i]) for i in (0, 1))


def _windows(node: AveragePool, axis: int, size: int, made: int) -> list[Span]:
    starts = [i * node.strides[axis] - node.padding[axis] for i in range(made)]
    return [(max(at, 0), min(at + node.kernel[axis], size)) for at in starts]


def _is_clipped(node: AveragePool, axis: int, size: int, made: int) -> bool:
    return any(b - a < node.kernel[axis] for a, b in _windows(node, axis, size, made))


def _is_same(node: AveragePool, axis: int, size: int, made: int) -> bool:
    """Whether SAME visits the same windows along an axis."""
    total = max((made - 1) * node.strides[axis] + node.kernel[axis] - size, 0)
    return -(-size // node.strides[axis]) == made and node.padding[axis] == total // 2


def _runs(windows: list[Span], stride: int) -> list[_Run]:
    found: list[_Run] = []
    latest = 0  # where the latest window starts
    for start, stop in windows:
        last = found[-1] if found else None
        if last and last.length == stop - start and start - latest == stride:
            found[-1] = _Run((last.span[0], stop), last.length, last.count + 1)
        else:
            found.append(_Run((start, stop), stop - start, 1))
        latest = start
    return found


class _Splitting:
    """The nodes that replace one pool; their shapes are added to those of the graph."""

    def __init__(self, node: AveragePool, shapes: dict[str, tuple[int, ...]]) -> None:
        self.nodes: list[Node] = []
        self._node, self._shapes = node, shapes
        rows = self._along(0, node.inputs[0], f"{node.output}/rows")
        self._along(1, rows, node.output)

    def _along(self, at: int, source: str, output: str) -> str:
        """Average along one axis."""
        node, axis = self._node, _AXES[at]
        size, made = self._shapes[source][axis], self._shapes[node.output][axis]
        runs = _runs(_windows(node, at, size, made), node.strides[at])
        parts = [
            self._run(at, source, run, output if len(runs) == 1 else f"{output}/part{position}")
            for position, run in enumerate(runs)
        ]
        if len(parts) > 1:
            joined = Concat(name=output, inputs=tuple(parts), output=output, axis=axis)
            self._add(joined, self._resized(source, axis, made))
        return output

    def _run(self, at: int, source: str, run: _Run, output: str) -> str:
        axis, strides = _AXES[at], self._node.strides[at]
        if run.span != (0, self._shapes[source][axis]):
            start, stop = run.span
            cut = f"{output}/cut"
            piece = Slice(name=cut, inputs=(source,), output=cut, axis=axis, start=start, stop=stop)
            self._add(piece, self._resized(source, axis, stop - start))
            source = cut
        pool = AveragePool(
            name=output,
            inputs=(source,),
            output=output,
            kernel=_on(at, run.length),
            strides=_on(at, strides if run.count > 1 else 1),
        )
        self._add(pool, self._resized(source, axis, run.count))
        return output

    def _resized(self, source: str, axis: int, length: int) -> tuple[int, ...]:
        shape = self._shapes[source]
        return (*shape[:axis], length, *shape[axis + 1 :])

    def _add(self, node: Node, shape: tuple[int, ...]) -> None:
        self._shapes[node.output] = shape
        self.nodes.append(node)


def _on(at: int, value: int) -> Pair:
    """The value for one axis, 1 for the other."""
    return (value, 1) if at == 0 else (1, value)


def ensures(graph: Graph) -> list[str]:
    """No such pool is left."""
    return [f"{node.name} clips its windows" for node in _waiting(graph)]


SPLIT_CLIPPED_POOLS = Rewrite("split_clipped_pools", apply, ensures)
