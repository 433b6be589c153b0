"""Explicit padding, as the graph has it, in terms of TFLite's SAME and VALID.

TFLite computes SAME's padding from the sizes and puts the odd pixel at the bottom
and right; PyTorch pads evenly. The two agree only for some sizes, so each case is
decided by arithmetic on the sizes at hand, never by the padding's look.
"""

from __future__ import annotations

from dataclasses import dataclass

from exporter.convert.graph import Padding, Pair


@dataclass(frozen=True)
class Window:
    """How a window slides over a padded image, height first."""

    size: Pair
    output: Pair
    kernel: Pair
    strides: Pair
    dilations: Pair
    padding: Padding

    def is_valid(self) -> bool:
        """Whether VALID visits exactly the same windows."""
        return all(
            before == 0 and -(-(size - reach + 1) // stride) == output
            for size, output, reach, stride, before in self._axes()
        )

    def is_same(self) -> bool:
        """Whether SAME visits exactly the same windows.

        Padding at the far end that no window reaches does not matter.
        """
        return all(
            -(-size // stride) == output
            and before == max((output - 1) * stride + reach - size, 0) // 2
            for size, output, reach, stride, before in self._axes()
        )

    def explicit(self) -> Padding:
        """The padding that makes VALID right: what the windows reach, and no more."""
        (top, bottom), (left, right) = (
            (before, max((output - 1) * stride + reach - size - before, 0))
            for size, output, reach, stride, before in self._axes()
        )
        return (top, left, bottom, right)

    def _axes(self) -> list[tuple[int, int, int, int, int]]:
        reach = [(k - 1) * d + 1 for k, d in zip(self.kernel, self.dilations, strict=True)]
        return [
            (self.size[i], self.output[i], reach[i], self.strides[i], self.padding[i])
            for i in range(2)
        ]
