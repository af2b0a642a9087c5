"""Metrics against brute force: gathered over batches, with weights, and the one `accuracy` picks by shape."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from fastrnn import metrics

RNG = np.random.default_rng(1)
N = 97
BINARY = (RNG.random(N) < 0.4).astype(int)
SCORES = np.clip(0.35 * BINARY + RNG.random((N,)) * 0.6, 0, 1)[:, None]
CLASSES = RNG.integers(0, 4, N)
PROBABILITIES = RNG.dirichlet(np.ones(4), N)
WEIGHTS = RNG.uniform(0, 3, N)


def gather(metric: metrics.Metric, y: Any, p: Any, weight: Any = None, size: int = 10) -> Any:
    """Feed in batches, the last one short."""
    metric.reset_state()
    for start in range(0, len(p), size):
        part = slice(start, start + size)
        metric.update_state(y[part], p[part], None if weight is None else weight[part])
    return metric.result()


def mean(values: Any, weight: Any) -> float:
    return float(np.average(values, weights=weight))


Reference = Callable[[Any], float]
W1 = np.ones(N)
FIGURES: list[tuple[str, Any, Any, Reference]] = [
    ("binary_accuracy", BINARY, SCORES, lambda w: mean((SCORES[:, 0] > 0.5) == BINARY, w)),
    ("sparse_categorical_accuracy", CLASSES, PROBABILITIES, lambda w: mean(PROBABILITIES.argmax(1) == CLASSES, w)),
    ("categorical_accuracy", np.eye(4)[CLASSES], PROBABILITIES, lambda w: mean(PROBABILITIES.argmax(1) == CLASSES, w)),
    ("mse", BINARY, SCORES, lambda w: mean((SCORES[:, 0] - BINARY) ** 2, w)),
    ("mae", BINARY, SCORES, lambda w: mean(abs(SCORES[:, 0] - BINARY), w)),
    ("RootMeanSquaredError", BINARY, SCORES, lambda w: mean((SCORES[:, 0] - BINARY) ** 2, w) ** 0.5),
    ("perplexity", CLASSES, PROBABILITIES, lambda w: np.exp(mean(-np.log(PROBABILITIES[range(N), CLASSES]), w))),
    ("perplexity", np.eye(4)[CLASSES], PROBABILITIES,
     lambda w: np.exp(mean(-np.log(PROBABILITIES[range(N), CLASSES]), w))),
    ("Precision", BINARY, SCORES, lambda w: mean(BINARY[SCORES[:, 0] > 0.5], w[SCORES[:, 0] > 0.5])),
    ("Recall", BINARY, SCORES, lambda w: mean(SCORES[BINARY == 1, 0] > 0.5, w[BINARY == 1])),
    ("TruePositives", BINARY, SCORES, lambda w: w[(SCORES[:, 0] > 0.5) & (BINARY == 1)].sum()),
    ("FalseNegatives", BINARY, SCORES, lambda w: w[(SCORES[:, 0] <= 0.5) & (BINARY == 1)].sum()),
    ("sparse_top_k_categorical_accuracy", CLASSES, PROBABILITIES, lambda w: 1.0),
]  # fmt: skip


@pytest.mark.parametrize(("name", "y", "p", "reference"), FIGURES)
def test_figures_over_batches(name: str, y: Any, p: Any, reference: Reference) -> None:
    metric = metrics.get(name)
    assert gather(metric, y, p) == pytest.approx(reference(W1), rel=1e-6)
    assert gather(metric, y, p, WEIGHTS) == pytest.approx(reference(WEIGHTS), rel=1e-6)


def test_auc_is_close_to_the_rank_statistic() -> None:
    positive, negative = SCORES[BINARY == 1], SCORES[BINARY == 0].T
    exact = ((positive > negative) + 0.5 * (positive == negative)).mean()
    assert gather(metrics.AUC(), BINARY, SCORES) == pytest.approx(exact, abs=0.005)
    assert gather(metrics.AUC(num_thresholds=20000), BINARY, SCORES) == pytest.approx(exact, abs=1e-4)


def test_auc_of_pr_of_perfect_and_of_inverted_scores() -> None:
    y = np.array([0, 0, 1, 1])
    p = np.array([[0.1], [0.4], [0.6], [0.9]])
    for curve in ("ROC", "PR"):
        assert gather(metrics.AUC(curve=curve), y, p) == pytest.approx(1.0, abs=1e-6)
    assert gather(metrics.AUC(), y, 1 - p) == pytest.approx(0.0, abs=1e-6)
    logits = np.log(p / (1 - p))
    assert gather(metrics.AUC(from_logits=True), y, logits) == pytest.approx(1.0, abs=1e-6)
    with pytest.raises(ValueError, match="expected probabilities from 0 to 1"):
        metrics.AUC().update_state(y, logits)


def test_auc_at_the_ends_of_the_scale() -> None:
    y, p = np.array([1, 1, 0, 0, 1, 0]), np.array([[1.0], [1.0], [1.0], [0.0], [0.0], [0.0]])
    # of 9 pairs of a positive and a negative 4 are right and 4 are ties
    assert gather(metrics.AUC(), y, p) == pytest.approx((4 + 0.5 * 4) / 9, abs=1e-6)


def test_auc_with_weights_counts_samples_so_often() -> None:
    times = RNG.integers(0, 4, N)
    weighted = gather(metrics.AUC(), BINARY, SCORES, times)
    assert weighted == pytest.approx(gather(metrics.AUC(), np.repeat(BINARY, times), np.repeat(SCORES, times, 0)))
    unweighted = gather(metrics.AUC(), BINARY, SCORES)
    assert weighted != pytest.approx(unweighted, abs=1e-4)


def f1(y: Any, chosen: Any) -> float:
    return 2 * (y & chosen).sum() / (y.sum() + chosen.sum())


def test_f1() -> None:
    chosen = SCORES[:, 0] > 0.5
    one = f1(BINARY == 1, chosen)
    assert gather(metrics.F1Score(), BINARY, SCORES) == pytest.approx(one)
    assert gather(metrics.F1Score(threshold=0.5), BINARY[:, None], SCORES) == pytest.approx(one)
    hot, best = np.eye(4)[CLASSES] > 0, np.eye(4)[PROBABILITIES.argmax(1)] > 0
    each = [f1(hot[:, k], best[:, k]) for k in range(4)]
    np.testing.assert_allclose(gather(metrics.F1Score(), hot.astype(int), PROBABILITIES), each)
    np.testing.assert_allclose(gather(metrics.F1Score(), CLASSES, PROBABILITIES), each)
    assert gather(metrics.F1Score("macro"), hot, PROBABILITIES) == pytest.approx(np.mean(each))
    assert gather(metrics.F1Score("micro"), hot, PROBABILITIES) == pytest.approx((hot & best).sum() / N)
    weighted = np.average(each, weights=hot.sum(0))
    assert gather(metrics.F1Score("weighted"), hot, PROBABILITIES) == pytest.approx(weighted)
    np.testing.assert_allclose(gather(metrics.F1Score(), CLASSES, PROBABILITIES, np.full(N, 2.0)), each)


def test_thresholds_and_class_id() -> None:
    got = gather(metrics.Precision(thresholds=[0.2, 0.5, 0.8]), BINARY, SCORES)
    np.testing.assert_allclose(got, [BINARY[SCORES[:, 0] > t].mean() for t in (0.2, 0.5, 0.8)])
    hot, chosen = np.eye(4)[CLASSES], PROBABILITIES[:, 2] > 0.5
    assert gather(metrics.Recall(class_id=2), hot, PROBABILITIES) == pytest.approx(chosen[CLASSES == 2].mean())
    assert gather(metrics.Precision(thresholds=1.0), BINARY, SCORES) == 0.0


@pytest.mark.parametrize("k", [1, 2, 3])
def test_top_k(k: int) -> None:
    order = np.argsort(-PROBABILITIES, axis=1)[:, :k]
    expected = (order == CLASSES[:, None]).any(1).mean()
    assert gather(metrics.SparseTopKCategoricalAccuracy(k), CLASSES, PROBABILITIES) == pytest.approx(expected)
    assert gather(metrics.TopKCategoricalAccuracy(k), np.eye(4)[CLASSES], PROBABILITIES) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("y", "p", "other"),
    [
        (BINARY, SCORES, metrics.BinaryAccuracy),
        (BINARY[:, None].astype(float), SCORES, metrics.BinaryAccuracy),
        (CLASSES, PROBABILITIES, metrics.SparseCategoricalAccuracy),
        (CLASSES[:, None], PROBABILITIES, metrics.SparseCategoricalAccuracy),
        (np.eye(4)[CLASSES], PROBABILITIES, metrics.CategoricalAccuracy),
    ],
)
@pytest.mark.parametrize("name", ["accuracy", "acc"])
def test_accuracy_is_resolved_by_shape(y: Any, p: Any, other: Any, name: str) -> None:
    metric = metrics.get(name)
    assert metric.name == name
    expected = gather(other(), y, p)
    assert 0.2 < expected < 1.0
    assert gather(metric, y, p) == expected


def test_positions_of_a_sequence_with_their_own_weights() -> None:
    y, p = RNG.integers(0, 3, (5, 4)), RNG.dirichlet(np.ones(3), (5, 4))
    w = (RNG.random((5, 4)) < 0.6).astype(float)
    metric = metrics.get("accuracy")
    assert gather(metric, y, p, w, size=2) == pytest.approx((p.argmax(-1) == y)[w > 0].mean())
    perplexity = metrics.Perplexity(mask_token_id=0)
    expected = np.exp(-np.log(np.take_along_axis(p, y[..., None], -1)[..., 0])[y != 0].mean())
    assert gather(perplexity, y, p, size=2) == pytest.approx(expected)


def test_names_are_those_of_keras() -> None:
    given = ["mse", "AUC", "accuracy", "mean_absolute_error", metrics.F1Score(name="f"), "Precision", metrics.AUC()]
    assert [metrics.get(m).name for m in given] == [
        "mse",
        "AUC",
        "accuracy",
        "mean_absolute_error",
        "f",
        "Precision",
        "auc",
    ]


@pytest.mark.parametrize("spec", [
    "accuracy", "mse", "AUC", metrics.F1Score("macro", 0.3), metrics.AUC(50, "PR"), metrics.Precision([0.1, 0.2]),
    metrics.Perplexity(mask_token_id=3), metrics.BinaryAccuracy(threshold=0.7),
    metrics.BinaryCrossentropy(from_logits=True),
])  # fmt: skip
def test_configurations(spec: Any) -> None:
    metric = metrics.get(spec)
    again = metrics.deserialize(metrics.serialize(metric))
    assert type(again) is type(metric) and again.get_config() == metric.get_config() and again.name == metric.name


def test_a_users_function_and_class() -> None:
    assert gather(metrics.get(lambda y, p: abs(y - p)), BINARY, SCORES) == pytest.approx(
        abs(BINARY - SCORES[:, 0]).mean()
    )
    assert gather(metrics.get(lambda y, p: (y != (p > 0.5)).mean()), BINARY, SCORES) == pytest.approx(
        (BINARY != (SCORES[:, 0] > 0.5)).mean()
    )

    class Largest(metrics.Metric):
        def reset_state(self) -> None:
            self.value = 0.0

        def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
            self.value = max(self.value, float(np.max(y_pred)))

        def result(self) -> float:
            return self.value

    assert gather(metrics.get(Largest), BINARY, SCORES) == SCORES.max()


@pytest.mark.parametrize("bad", ["nonsense", 3, {"class_name": "nonsense"}, None])
def test_unknown_metrics_are_refused(bad: Any) -> None:
    with pytest.raises(ValueError, match=r"\[compile\] metrics: expected one of"):
        metrics.get(bad)


def test_bad_arguments() -> None:
    for make, message in [
        (lambda: metrics.AUC(curve="x"), r"\[AUC\] curve"),
        (lambda: metrics.F1Score(average="x"), r"\[F1Score\] average"),
        (lambda: metrics.Precision(1.5), r"\[Precision\] thresholds"),
        (lambda: metrics.Recall(top_k=3), r"\[Recall\] top_k"),  # type: ignore[arg-type]
    ]:
        with pytest.raises(ValueError, match=message):
            make()


def test_an_empty_metric_is_zero() -> None:
    for name in ("accuracy", "mse", "AUC", "precision", "f1_score", "perplexity"):
        metric = metrics.get(name)
        metric.reset_state()
        assert metric.result() == (1.0 if name == "perplexity" else 0.0)
