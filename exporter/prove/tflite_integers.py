"""The integers that a quantized file computes before it turns them into probabilities.

Two runtimes that agree on a file's int8 arithmetic may still differ in the last bit of a
float softmax, and a step of int8 may vanish in a rounded probability. Whoever compares
runtimes therefore wants the integers themselves. No interpreter shows them: a tensor
inside a delegated graph has no memory of its own. A copy of the file in which that tensor
is the output does.
"""

from __future__ import annotations

from typing import Any

_BEHIND = ("SOFTMAX", "LOGISTIC", "RESHAPE")  # what may follow the last DEQUANTIZE
_NOWHERE = -1


def with_integer_output(model: bytes) -> bytes | None:
    """A copy whose output is the integer tensor in front of the last DEQUANTIZE.

    One number is changed in place, the index in the subgraph's list of outputs. Operators,
    weights and their alignment stay as they are, so that the same kernels run.

    Args:
        model: a TFLite file that an interpreter has accepted, with one output.

    Returns:
        The copy, or None where the output does not come from an int8 or uint8 tensor
        (nothing but DEQUANTIZE, RESHAPE, SOFTMAX and LOGISTIC may lie between).
    """
    from ai_edge_litert import schema_py_generated as schema

    copy = bytearray(model)
    parsed = schema.Model.GetRootAs(copy, 0)
    graph = parsed.Subgraphs(0)
    outputs = graph.OutputsAsNumpy()  # a view into the copy
    source = _integer_tensor(parsed, graph, int(outputs[0]))
    if source == _NOWHERE:
        return None
    outputs[0] = source
    return bytes(copy)


def _integer_tensor(model: Any, graph: Any, output: int) -> int:
    """The index of the tensor that is dequantized last on the way to `output`."""
    from ai_edge_litert.schema_py_generated import BuiltinOperator, TensorType

    operators = [graph.Operators(index) for index in range(graph.OperatorsLength())]
    producers = {int(made): node for node in operators for made in node.OutputsAsNumpy()}
    behind = {getattr(BuiltinOperator, name) for name in _BEHIND}
    tensor = output
    for _ in operators:  # no path is longer
        node = producers.get(tensor)
        if node is None:
            break
        code = model.OperatorCodes(node.OpcodeIndex())
        # Files older than schema 3a have the kind in the byte-sized field only.
        kind = max(code.BuiltinCode(), code.DeprecatedBuiltinCode())
        tensor = int(node.Inputs(0))
        if kind == BuiltinOperator.DEQUANTIZE:
            right = graph.Tensors(tensor).Type() in (TensorType.INT8, TensorType.UINT8)
            return tensor if right and tensor in producers else _NOWHERE
        if kind not in behind:
            break
    return _NOWHERE
