"""Scores of answers: by hand, and with scikit-learn as the second opinion."""

from __future__ import annotations

import builtins
import sys
from typing import Any

import numpy as np
import pytest

from models import metrics
from models.errors import MissingExtraError
from models.metrics import (
    confusion_matrix,
    most_confused,
    multi_label_scores,
    order_by_confusion,
    single_label_scores,
)


def softmax_set(classes: int, images: int, seed: int = 0, absent: int = 0) -> Any:
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, classes - absent, images)
    logits = rng.normal(0, 1, (images, classes))
    logits[np.arange(images), truth] += 1.5
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    return probabilities.astype(np.float32), truth


def sigmoid_set(classes: int = 6, images: int = 200, seed: int = 0) -> Any:
    rng = np.random.default_rng(seed)
    truth = (rng.random((images, classes)) < 0.3).astype(np.int64)
    truth[:, -1] = 0  # a class that no image has
    logits = rng.normal(-1, 1, truth.shape) + 2.0 * truth
    return (1 / (1 + np.exp(-logits))).astype(np.float32), truth


def test_five_images_by_hand() -> None:
    # answers 0, 0, 1, 1, 2 for truths 0, 1, 1, 1, 2
    table = np.array(
        [[0.8, 0.1, 0.1], [0.5, 0.3, 0.2], [0.2, 0.7, 0.1], [0.3, 0.4, 0.3], [0.1, 0.2, 0.7]]
    )
    found = single_label_scores(table, [0, 1, 1, 1, 2])
    assert found.accuracy == pytest.approx(0.8)
    assert [row.precision for row in found.classes] == pytest.approx([0.5, 1, 1])
    assert [row.recall for row in found.classes] == pytest.approx([1, 2 / 3, 1])
    assert [row.f1 for row in found.classes] == pytest.approx([2 / 3, 0.8, 1])
    assert [row.support for row in found.classes] == [1, 3, 1]
    assert found.macro.f1 == pytest.approx((2 / 3 + 0.8 + 1) / 3)
    assert found.weighted.f1 == pytest.approx((2 / 3 + 3 * 0.8 + 1) / 5)
    assert (found.top, found.top_k) == (1.0, 2)


@pytest.mark.parametrize(("classes", "absent"), [(3, 0), (17, 0), (85, 30)])
def test_scores_are_those_of_scikit_learn(classes: int, absent: int) -> None:
    from sklearn.metrics import classification_report, top_k_accuracy_score

    table, truth = softmax_set(classes, 150, absent=absent)
    found = single_label_scores(table, truth)
    theirs = classification_report(truth, table.argmax(axis=1), output_dict=True, zero_division=0)
    assert found.accuracy == pytest.approx(theirs["accuracy"])
    for name, mean in (("macro avg", found.macro), ("weighted avg", found.weighted)):
        assert (mean.precision, mean.recall, mean.f1, mean.support) == pytest.approx(
            tuple(theirs[name].values()), abs=1e-6
        )
    rows = [str(index) for index, counted in enumerate(found.counted) if counted]
    assert rows == [name for name in theirs if name.isdigit()]
    for name in rows:
        row = found.classes[int(name)]
        assert (row.precision, row.recall, row.f1, row.support) == pytest.approx(
            tuple(theirs[name].values()), abs=1e-6
        )
    k = min(5, classes - 1)
    assert found.top == pytest.approx(
        top_k_accuracy_score(truth, table, k=k, labels=np.arange(classes))
    )


def test_multi_label_scores_are_those_of_scikit_learn() -> None:
    from sklearn.metrics import accuracy_score, average_precision_score, classification_report

    table, truth = sigmoid_set()
    thresholds = np.linspace(0.2, 0.6, truth.shape[1])
    answers = (table >= thresholds).astype(int)
    found = multi_label_scores(table, truth, tuple(thresholds))
    theirs = classification_report(truth, answers, output_dict=True, zero_division=0)
    for index, row in enumerate(found.classes):
        assert (row.precision, row.recall, row.f1, row.support) == pytest.approx(
            tuple(theirs[str(index)].values()), abs=1e-6
        )
    assert all(found.counted)
    assert found.micro is not None
    assert found.samples is not None
    for name, mean in (
        ("macro avg", found.macro), ("weighted avg", found.weighted),
        ("micro avg", found.micro), ("samples avg", found.samples),
    ):  # fmt: skip
        assert (mean.precision, mean.recall, mean.f1, mean.support) == pytest.approx(
            tuple(theirs[name].values()), abs=1e-6
        )
    assert found.accuracy == pytest.approx(accuracy_score(truth, answers))
    expected = [average_precision_score(truth[:, i], table[:, i]) for i in range(5)]
    assert found.average_precision[:5] == pytest.approx(expected, abs=1e-6)
    assert found.average_precision[5] is None
    assert found.mean_average_precision == pytest.approx(np.mean(expected), abs=1e-6)


def test_average_precision_by_hand() -> None:
    # by falling probability: there, not, there: precision 1 at recall 1/2, 2/3 at recall 1
    table = np.array([[0.9, 0.1], [0.5, 0.1], [0.3, 0.1]])
    found = multi_label_scores(table, [[1, 0], [0, 0], [1, 0]], 0.5)
    assert found.average_precision == (pytest.approx(1 / 2 + 2 / 3 * 1 / 2), None)


def test_a_class_at_its_threshold_is_answered() -> None:
    found = multi_label_scores(np.array([[0.5, 0.4]]), [[1, 1]], (0.5, 0.5))
    assert found.classes[0].recall == 1
    assert found.classes[1].recall == 0


def test_a_class_that_nobody_named_is_not_in_the_mean() -> None:
    table = np.array([[0.9, 0.05, 0.05], [0.1, 0.8, 0.1]])
    found = single_label_scores(table, [0, 1])
    assert found.counted == (True, True, False)
    assert found.macro.f1 == 1.0
    multi = multi_label_scores(table, [[1, 0, 0], [0, 1, 0]], 0.5)
    assert multi.counted == (True, True, False)
    assert multi.macro.f1 == 1.0


def test_ties_go_to_the_lowest_index() -> None:
    found = single_label_scores(np.full((2, 4), 0.25, np.float32), [0, 3])
    assert found.accuracy == 0.5
    assert found.top == 0.5  # the first three of four


def test_two_classes_have_no_top_k() -> None:
    assert single_label_scores([[0.4, 0.6]], [1]).top is None


def test_scores_are_plain_numbers() -> None:
    found = single_label_scores(*softmax_set(4, 20))
    assert all(type(row.f1) is float and type(row.support) is int for row in found.classes)
    assert all(type(one) is bool for one in found.counted)


def test_a_mixed_up_table_is_found_out() -> None:
    table, truth = softmax_set(5, 200)
    right = single_label_scores(table, truth)
    assert single_label_scores(table[:, ::-1], truth).accuracy < right.accuracy - 0.3


def test_confusion_matrix_is_that_of_scikit_learn() -> None:
    from sklearn.metrics import confusion_matrix as theirs

    table, truth = softmax_set(7, 300)
    answers = table.argmax(axis=1)
    np.testing.assert_array_equal(
        confusion_matrix(truth, answers, 8), theirs(truth, answers, labels=range(8))
    )


def test_most_confused_pairs_first_by_count() -> None:
    pairs = most_confused([[8, 2, 0], [0, 1, 3], [2, 0, 2]], limit=2)
    assert [(pair.truth, pair.answer, pair.count) for pair in pairs] == [(1, 2, 3), (2, 0, 2)]
    assert pairs[0].share == pytest.approx(0.75)


@pytest.mark.parametrize("classes", [8, 85, 200])
def test_classes_that_are_confused_lie_together(classes: int) -> None:
    """Blocks of four, shuffled: the order has to find them again."""
    rng = np.random.default_rng(classes)
    group = rng.permutation(np.arange(classes) // 4)
    matrix = np.where(group[:, None] == group[None, :], rng.integers(4, 9, (classes, classes)), 0)
    matrix += (rng.random((classes, classes)) < 0.02).astype(int)
    np.fill_diagonal(matrix, 30)
    order = order_by_confusion(matrix)
    assert sorted(order) == list(range(classes))
    changes = np.count_nonzero(np.diff(group[list(order)]))
    assert changes == len(set(group)) - 1


def test_classes_that_are_never_confused_come_last_in_their_order() -> None:
    matrix = np.diag([5, 5, 5, 5, 5])
    matrix[3, 1] = 2
    assert order_by_confusion(matrix) in ((1, 3, 0, 2, 4), (3, 1, 0, 2, 4))
    assert order_by_confusion(np.eye(4)) == (0, 1, 2, 3)


def test_a_chain_of_classes_is_laid_out_as_a_chain() -> None:
    """Each class is confused with its neighbours, as sizes would be: the ends stay the ends."""
    place = np.array([3, 0, 4, 1, 2, 5])
    matrix = 100.0 / (1 + 4 * np.abs(place[:, None] - place[None, :]) ** 2)
    laid = place[list(order_by_confusion(matrix))].tolist()
    assert laid in ([0, 1, 2, 3, 4, 5], [5, 4, 3, 2, 1, 0])


def test_without_torchmetrics_the_error_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    original = builtins.__import__

    def without(name: str, *rest: Any, **more: Any) -> Any:
        if name.startswith("torchmetrics"):
            raise ImportError(name)
        return original(name, *rest, **more)

    for name in [name for name in sys.modules if name.startswith("torchmetrics")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(MissingExtraError) as caught:
        metrics.single_label_scores([[0.4, 0.6]], [1])
    assert "exporter[train]" in caught.value.mend
