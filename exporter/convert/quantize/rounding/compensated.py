"""Rounding that compensates: each weight's rounding error is made up for by those after it.

The closed form of Optimal Brain Surgeon (Hassibi and Stork 1993) in the order of GPTQ
(Frantar et al. 2023, algorithm 1). With C the covariance of the layer's inputs and U the
upper Cholesky factor of its inverse, C^-1 = U' U, weights are rounded one column after the
other, and the error e[j] = (w[j] - q[j]) / U[j, j] is taken out of the columns that are
still to come: w[k] -= e[j] U[j, k]. All output channels share C, so all go at once; those of one
group of a grouped convolution share one, and a depthwise channel has a small matrix of its own.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from exporter.convert.quantize.rounding.weights import LIMIT

DAMPING = 0.01  # of the mean of the diagonal, added to it: little-used inputs stay bounded
FEW_SAMPLES_DAMPING = 0.1  # where there are fewer samples than inputs
_BLOCK = 64
Matrix = npt.NDArray[np.float64]
Steps = npt.NDArray[np.int8]


def compensated(
    weight: npt.NDArray[np.float32],
    scales: npt.NDArray[np.float32],
    covariance: Matrix,
    damping: float = DAMPING,
) -> Steps:
    """Round weights to multiples of their scales so that the errors cancel over the inputs.

    Args:
        weight: float32 `[out, ...]`.
        scales: float32 `[out]`, one an output channel; none is changed.
        covariance: `[n, n]` with n weights an output channel, or `[groups, n, n]`, one for
            each `out / groups` output channels that follow each other.
        damping: a share of the mean variance, added to every variance.

    Returns:
        int8 of the weight's shape, in [-127, 127]. Nothing but zeros in C is plain rounding.
    """
    rows = weight.reshape(len(weight), -1).astype(np.float64)
    step = scales.astype(np.float64)
    if covariance.ndim == 2:
        steps = _shared(rows, step, covariance, damping)
    elif len(covariance) == len(rows):
        steps = _each(rows, step, covariance, damping)
    else:
        groups = (np.array_split(each, len(covariance)) for each in (rows, step))
        parts = zip(*groups, covariance, strict=True)
        steps = np.concatenate([_shared(w, s, c, damping) for w, s, c in parts])
    return steps.astype(np.int8).reshape(weight.shape)


def _rounded(column: Matrix, step: Matrix) -> Matrix:
    return np.clip(np.rint(column / step), -LIMIT, LIMIT)


def _shared(rows: Matrix, step: Matrix, covariance: Matrix, damping: float) -> Matrix:
    order = np.argsort(-np.diagonal(covariance), kind="stable")  # what matters most goes first
    factor = _factor(covariance[np.ix_(order, order)][None], damping)[0]
    left = rows[:, order].copy()
    steps = np.zeros_like(left)
    for start in range(0, left.shape[1], _BLOCK):
        end = min(start + _BLOCK, left.shape[1])
        errors = np.zeros((len(left), end - start))
        for j in range(start, end):
            steps[:, j] = _rounded(left[:, j], step)
            errors[:, j - start] = (left[:, j] - steps[:, j] * step) / factor[j, j]
            left[:, j:end] -= np.outer(errors[:, j - start], factor[j, j:end])
        left[:, end:] -= errors @ factor[start:end, end:]
    found = np.empty_like(steps)
    found[:, order] = steps
    return found


def _each(rows: Matrix, step: Matrix, covariance: Matrix, damping: float) -> Matrix:
    factor = _factor(covariance, damping)
    left, steps = rows.copy(), np.zeros_like(rows)
    for j in range(rows.shape[1]):
        steps[:, j] = _rounded(left[:, j], step)
        errors = (left[:, j] - steps[:, j] * step) / factor[:, j, j]
        left[:, j:] -= errors[:, None] * factor[:, j, j:]
    return steps


def _factor(covariance: Matrix, damping: float) -> Matrix:
    """The upper Cholesky factors of the damped inverses, `[m, n, n]`.

    An input that never varies is independent of all others: its rounding touches nothing.
    Where rounding errors of the sums leave a matrix that has no factor, it is damped more.
    """
    symmetric = (covariance + covariance.swapaxes(-1, -2)) / 2
    mean = np.einsum("mii->m", symmetric) / symmetric.shape[-1]
    unit = np.where(mean > 0, mean, 1.0)[:, None, None] * np.eye(symmetric.shape[-1])
    while True:
        try:
            inverse = np.linalg.inv(symmetric + damping * unit)
            lower = np.linalg.cholesky((inverse + inverse.swapaxes(-1, -2)) / 2)
            return lower.swapaxes(-1, -2).astype(np.float64)
        except np.linalg.LinAlgError:
            damping *= 10.0
