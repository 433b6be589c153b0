"""How good answers are: numbers from probabilities and the true classes.

torchmetrics computes them; what is added here is how ties are broken (the lowest index wins,
as in an app), which classes count, and the order in which a confusion matrix is readable.

Precision is the share of the answers 'class c' that are right, recall the share of the images
of class c that are found, F1 their harmonic mean; where one of them would be 0 / 0 it is 0.
Means over classes are over those that occur in the truth or among the answers, as in
scikit-learn's classification_report.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from models.errors import MissingExtraError
from models.torchvision_shim import import_torchvision

if TYPE_CHECKING:
    from torch import Tensor

__all__ = [
    "TOP",
    "ClassScores",
    "Confusion",
    "Scores",
    "answers_of",
    "confusion_matrix",
    "confusions",
    "most_confused",
    "most_confused_of",
    "multi_label_scores",
    "order_by_confusion",
    "single_label_scores",
]

TOP = 5

Integers = npt.NDArray[np.int64]


@dataclass(frozen=True)
class ClassScores:
    """Precision, recall and F1 of one class, or a mean of them.

    Attributes:
        support: how many images are of the class; for a mean, of all classes.
    """

    precision: float
    recall: float
    f1: float
    support: int


@dataclass(frozen=True)
class Scores:
    """What a set of answers came to.

    Attributes:
        images: how many there are.
        accuracy: share of images answered rightly; of a multi-label set those whose
            classes are all found and no others.
        top: share of images whose class is among the `top_k` likeliest; None where that
            says nothing (two classes, multi-label).
        top_k: 5, or one less than there are classes.
        classes: one a class, in class order.
        counted: whether each class occurs in the truth or among the answers.
        macro, weighted: means over the counted classes, plain and by support.
        micro: over all pairs of image and class; None for a single label, where it is
            the accuracy.
        samples: mean over the images of each image's own; None for a single label.
        average_precision: area under each class's precision-recall curve; None where the
            class occurs in no image; empty for a single label.
        mean_average_precision: their mean, None for a single label.
    """

    images: int
    accuracy: float
    top: float | None
    top_k: int
    classes: tuple[ClassScores, ...]
    counted: tuple[bool, ...]
    macro: ClassScores
    weighted: ClassScores
    micro: ClassScores | None = None
    samples: ClassScores | None = None
    average_precision: tuple[float | None, ...] = ()
    mean_average_precision: float | None = None


@dataclass(frozen=True)
class Confusion:
    """How often one class was taken for another.

    Attributes:
        truth, answer: class indices.
        count: how many images.
        share: of the images of the true class.
    """

    truth: int
    answer: int
    count: int
    share: float


def answers_of(probabilities: Any) -> Integers:
    """The likeliest class of each image, int64 `[n]`; the lowest index where several are."""
    return np.asarray(probabilities).argmax(axis=1).astype(np.int64)


def single_label_scores(probabilities: Any, truth: Any) -> Scores:
    """Measure answers where each image has one class.

    Args:
        probabilities: finite `[n, classes]`, n > 0.
        truth: integer `[n]`.

    Raises:
        MissingExtraError: torchmetrics is not installed.
    """
    theirs = _torchmetrics()
    table, right = np.asarray(probabilities), np.asarray(truth, dtype=np.int64)
    count = table.shape[1]
    found, wanted = _tensors(answers_of(table), right)
    known = {"preds": found, "target": wanted, "num_classes": count}
    columns = {
        average: [
            measure(**known, average=average)
            for measure in (
                theirs.multiclass_precision,
                theirs.multiclass_recall,
                theirs.multiclass_f1_score,
            )
        ]
        for average in ("none", "macro", "weighted")
    }
    support = np.bincount(right, minlength=count)
    occurs = (support > 0) | (np.bincount(answers_of(table), minlength=count) > 0)
    k = min(TOP, count - 1)
    return Scores(
        images=len(right),
        accuracy=float(theirs.multiclass_accuracy(**known, average="micro")),
        top=_top_share(table, right, k) if k > 1 else None,
        top_k=k,
        classes=_rows(columns["none"], support),
        counted=tuple(bool(one) for one in np.atleast_1d(occurs)),
        macro=_mean(columns["macro"], len(right)),
        weighted=_mean(columns["weighted"], len(right)),
    )


def multi_label_scores(
    probabilities: Any, truth: Any, thresholds: float | Sequence[float]
) -> Scores:
    """Measure answers where an image may have any number of classes.

    Args:
        probabilities: finite `[n, classes]`, n > 0.
        truth: 0 or 1, `[n, classes]`.
        thresholds: a class is answered where its probability is at least this; one number
            or one a class.

    Raises:
        MissingExtraError: torchmetrics is not installed.
    """
    theirs = _torchmetrics()
    table, right = np.asarray(probabilities), np.asarray(truth) > 0.5
    found = table >= np.asarray(thresholds, dtype=np.float64)
    occurs = found.any(axis=0) | right.any(axis=0)
    support = right.sum(axis=0)
    answers, wanted = _tensors(found.astype(np.int64), right.astype(np.int64))
    measures = (
        theirs.multilabel_precision, theirs.multilabel_recall, theirs.multilabel_f1_score
    )  # fmt: skip
    each = [
        measure(answers, wanted, num_labels=table.shape[1], average="none") for measure in measures
    ]
    flat = [
        measure(answers.ravel(), wanted.ravel())
        for measure in (theirs.binary_precision, theirs.binary_recall, theirs.binary_f1_score)
    ]
    precisions = _average_precisions(table, right)
    known = [value for value in precisions if value is not None]
    total = int(support.sum())
    weights = support / max(total, 1)
    return Scores(
        images=len(right),
        accuracy=float((found == right).all(axis=1).mean()),
        top=None,
        top_k=min(TOP, table.shape[1] - 1),
        classes=_rows(each, support),
        counted=tuple(bool(one) for one in np.atleast_1d(occurs)),
        macro=_mean([float(np.asarray(one)[occurs].mean()) if occurs.any() else 0.0
                     for one in each], total),
        weighted=_mean([float((np.asarray(one) * weights).sum()) for one in each], total),
        micro=_mean(flat, total),
        samples=_sample_means(found, right, total),
        average_precision=precisions,
        mean_average_precision=sum(known) / len(known) if known else None,
    )  # fmt: skip


def confusion_matrix(truth: Any, answers: Any, classes: int) -> Integers:
    """How many images of class i were answered with class j, int64 `[classes, classes]`.

    Args:
        truth, answers: integer `[n]`.

    Raises:
        MissingExtraError: torchmetrics is not installed.
    """
    found, right = _tensors(np.asarray(answers, np.int64), np.asarray(truth, np.int64))
    matrix = _torchmetrics().multiclass_confusion_matrix(found, right, num_classes=classes)
    return np.asarray(matrix, dtype=np.int64)


def most_confused(matrix: Any, limit: int | None = None) -> tuple[Confusion, ...]:
    """Pairs of a class and another that it was taken for, most images first.

    Args:
        matrix: counts `[classes, classes]`, the truth in rows.
        limit: at most so many.
    """
    return most_confused_of(confusions(matrix), limit)


def confusions(matrix: Any) -> tuple[Confusion, ...]:
    """Every pair of classes, the same twice included, that at least one image was answered with.

    Args:
        matrix: counts `[classes, classes]`, the truth in rows.
    """
    counts = np.array(matrix, dtype=np.int64)
    support = counts.sum(axis=1)
    return tuple(
        Confusion(int(i), int(j), int(counts[i, j]), float(counts[i, j] / support[i]))
        for i, j in zip(*np.nonzero(counts), strict=True)
    )


def most_confused_of(pairs: Sequence[Confusion], limit: int | None = None) -> tuple[Confusion, ...]:
    """Those of two classes, most images first; of as many, the larger share first."""
    wrong = [pair for pair in pairs if pair.truth != pair.answer]
    wrong.sort(key=lambda pair: (-pair.count, -pair.share, pair.truth, pair.answer))
    return tuple(wrong[:limit])


def order_by_confusion(matrix: Any) -> tuple[int, ...]:
    """An order of the classes in which those that are taken for each other lie together.

    The symmetrized confusion, (C + C^T) / 2 of the rows' shares, is the likeness of two
    classes. Agglomerative clustering by mean likeness (Sokal and Michener 1958) joins the two
    most alike groups again and again; each joint is laid with its most alike ends together,
    so that blocks along the diagonal are groups of classes that are confused. Groups with
    most confusion come first, classes without any last, in class order.

    Args:
        matrix: counts `[classes, classes]`, the truth in rows.

    Returns:
        Every class index once.
    """
    counts = np.asarray(matrix, dtype=np.float64)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    likeness = (shares + shares.T) / 2
    np.fill_diagonal(likeness, 0.0)
    groups = [[index] for index in range(len(counts))]
    between = likeness.copy()
    np.fill_diagonal(between, -1.0)
    while len(groups) > 1:
        first, second = sorted(np.unravel_index(int(between.argmax()), between.shape))
        if between[first, second] <= 0:
            break
        sizes = len(groups[first]), len(groups[second])
        joint = (between[first] * sizes[0] + between[second] * sizes[1]) / sum(sizes)
        groups[first] = _joined(groups[first], groups[second], likeness)
        del groups[second]
        between[first], between[:, first] = joint, joint
        between[first, first] = -1.0
        between = np.delete(np.delete(between, second, axis=0), second, axis=1)
    groups.sort(key=lambda group: (-likeness[np.ix_(group, group)].sum(), group[0]))
    return tuple(index for group in groups for index in group)


def _joined(left: list[int], right: list[int], likeness: npt.NDArray[np.float64]) -> list[int]:
    """Two groups end to end, turned so that the ends that meet are the most alike."""
    turned = [(a, b) for a in (left, left[::-1]) for b in (right, right[::-1])]
    first, second = max(turned, key=lambda pair: likeness[pair[0][-1], pair[1][0]])
    return first + second


def _top_share(table: npt.NDArray[Any], right: Integers, k: int) -> float:
    """Share of images whose class is among the k likeliest; ties go to the lowest index."""
    likeliest = np.argsort(-table, axis=1, kind="stable")[:, :k]
    return float((likeliest == right[:, None]).any(axis=1).mean())


def _average_precisions(
    table: npt.NDArray[Any], right: npt.NDArray[np.bool_]
) -> tuple[float | None, ...]:
    theirs = _torchmetrics()
    given, wanted = _tensors(table.astype(np.float32), right.astype(np.int64))
    return tuple(
        float(theirs.binary_average_precision(given[:, index], wanted[:, index]))
        if right[:, index].any()
        else None
        for index in range(table.shape[1])
    )


def _sample_means(
    found: npt.NDArray[np.bool_], right: npt.NDArray[np.bool_], support: int
) -> ClassScores:
    both = (found & right).sum(axis=1)
    answered, there = found.sum(axis=1), right.sum(axis=1)
    parts = (
        both / np.maximum(answered, 1),
        both / np.maximum(there, 1),
        2 * both / np.maximum(answered + there, 1),
    )
    return _mean([float(part.mean()) for part in parts], support)


def _rows(columns: Sequence[Any], support: Any) -> tuple[ClassScores, ...]:
    values = [np.asarray(column, dtype=np.float64) for column in columns]
    return tuple(
        ClassScores(float(p), float(r), float(f), int(s))
        for p, r, f, s in zip(*values, support, strict=True)
    )


def _mean(values: Sequence[Any], support: int) -> ClassScores:
    precision, recall, f1 = map(float, values)
    return ClassScores(precision, recall, f1, support)


def _tensors(*arrays: npt.NDArray[Any]) -> list[Tensor]:
    import torch

    return [torch.from_numpy(np.ascontiguousarray(array)) for array in arrays]


def _torchmetrics() -> Any:
    """torchmetrics' functions for classification.

    Raises:
        MissingExtraError: it or torch is not installed.
    """
    try:
        import_torchvision()  # torchmetrics imports torchvision by itself
        from torchmetrics.functional import classification
    except ImportError as error:
        raise MissingExtraError("torchmetrics", "train", "Measuring answers") from error
    return classification
