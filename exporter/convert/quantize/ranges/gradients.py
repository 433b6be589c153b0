"""How far each value of each tensor moves the logits, measured by back-propagation.

With J the derivative of the logits by a tensor, small errors d of its values move the logits
by J d, and E[|J d|^2] is the sum of d[i]^2 (J'J)[i, i] for errors that do not vary together: the
Gauss-Newton form of the second-order loss that BRECQ (Li et al. 2021, section 3.1) and AdaRound
(Nagel et al. 2020, equation 9) start from, for the loss |logits - logits of float|^2. The diagonal
is estimated by Hutchinson's probes: for r with independent signs +1 and -1, E[(J' r)[i]^2] =
(J'J)[i, i], one backward pass a probe and no need of a pass per class.

Without PyTorch: the backward pass is an ONNX graph behind the forward one.

    x -> Conv -> y -> ... -> logits
                                 |  r, a probe
    dx <- ConvTranspose <- dy <- ...
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper

from exporter.convert.evaluate import to_feed, to_onnx_model
from exporter.convert.graph import Graph
from exporter.convert.quantize.ranges.backward import Backward, gradient_name

PROBES = 2  # of one image
_PROBE = "probe"
Values = npt.NDArray[np.float32]


class LogitGradients:
    """Squared derivatives of the logits by tensors, image by image.

    Args:
        graph: in float.
        names: tensors of it, none of them its input.
        probes: backward passes an image.
    """

    def __init__(self, graph: Graph, names: Sequence[str], probes: int = PROBES) -> None:
        import onnxruntime

        self.names = tuple(names)
        self._graph = graph
        self._probes = probes
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        self._session = onnxruntime.InferenceSession(
            backward_model(graph, self.names).SerializeToString(),
            options,
            providers=["CPUExecutionProvider"],
        )

    def run(self, pixels: npt.NDArray[np.uint8]) -> dict[str, Values]:
        """The estimate of the diagonal of J'J, float32 of each tensor's shape, by name.

        The probes follow from the image's bytes: the same image has the same ones.
        """
        digest = hashlib.blake2b(np.ascontiguousarray(pixels).data, digest_size=8).digest()
        random = np.random.default_rng(int.from_bytes(digest, "little"))
        feed = {self._graph.input.name: to_feed(self._graph.input, pixels)}
        shape = self._graph.shapes[self._graph.logits]
        sums: dict[str, Values] = {}
        for _ in range(self._probes):
            feed[_PROBE] = random.choice(np.array([-1, 1], np.float32), shape)
            found = self._session.run([gradient_name(name) for name in self.names], feed)
            for name, gradient in zip(self.names, found, strict=True):
                sums[name] = sums.get(name, np.float32(0)) + gradient**2
        return {name: total / np.float32(self._probes) for name, total in sums.items()}


def backward_model(graph: Graph, names: Sequence[str]) -> onnx.ModelProto:
    """A model from pixels and `probe` (of the logits' shape) to `probe' d logits / d tensor`.

    A tensor that the logits do not depend on has a derivative of zeros.
    """
    model = to_onnx_model(graph, [])
    body = model.graph
    backward = Backward(graph, body)
    backward.give(graph.logits, _PROBE)
    for node in reversed(graph.nodes):
        if node.output == graph.output and node.output != graph.logits:
            continue
        backward.through(node)
    body.input.append(
        helper.make_tensor_value_info(_PROBE, TensorProto.FLOAT, graph.shapes[graph.logits])
    )
    for name in names:
        backward.finish(name)
        body.output.append(
            helper.make_tensor_value_info(
                gradient_name(name), TensorProto.FLOAT, graph.shapes[name]
            )
        )
    return model
