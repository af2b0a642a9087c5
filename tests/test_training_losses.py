"""Losses: formulas, derivatives by finite differences, reduction with weights and masks, refused targets."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from fastrnn import losses
from fastrnn.training.losses import find

RNG = np.random.default_rng(0)


def targets_and_outputs(name: str, shape: tuple[int, ...], seed: int = 0) -> tuple[Any, Any]:
    """Random float64 targets and outputs that suit the loss, away from its corners."""
    rng = np.random.default_rng(seed)
    p = rng.uniform(0.05, 0.95, shape)
    if name.startswith("sparse"):
        p = p / p.sum(-1, keepdims=True) * rng.uniform(0.5, 1.5, (*shape[:-1], 1))  # not normalised on purpose
        return rng.integers(0, shape[-1], shape[:-1]), p
    if name == "categorical_crossentropy":
        return rng.dirichlet(np.ones(shape[-1]), shape[:-1]), p
    if name in ("binary_crossentropy", "kl_divergence", "poisson", "mean_squared_logarithmic_error"):
        return rng.uniform(0.0, 1.0, shape), p
    if name in ("hinge", "squared_hinge"):
        return rng.choice([-1.0, 1.0], shape), rng.normal(size=shape)
    return rng.normal(size=shape) * 2, rng.normal(size=shape) * 2


CASES: list[tuple[str, dict[str, Any]]] = [
    ("mean_squared_error", {}),
    ("mean_absolute_error", {}),
    ("mean_absolute_percentage_error", {}),
    ("mean_squared_logarithmic_error", {}),
    ("huber", {}),
    ("huber", {"delta": 0.3}),
    ("log_cosh", {}),
    ("poisson", {}),
    ("hinge", {}),
    ("squared_hinge", {}),
    ("kl_divergence", {}),
    ("cosine_similarity", {}),
    ("binary_crossentropy", {}),
    ("binary_crossentropy", {"label_smoothing": 0.2}),
    ("binary_crossentropy", {"from_logits": True}),
    ("categorical_crossentropy", {}),
    ("categorical_crossentropy", {"label_smoothing": 0.3}),
    ("categorical_crossentropy", {"from_logits": True, "label_smoothing": 0.1}),
    ("sparse_categorical_crossentropy", {}),
    ("sparse_categorical_crossentropy", {"from_logits": True}),
    ("sparse_categorical_crossentropy", {"ignore_class": 1}),
]


@pytest.mark.parametrize(("name", "options"), CASES)
@pytest.mark.parametrize("shape", [(4, 3), (3, 5, 4)])
def test_gradient_is_that_of_the_value(name: str, options: dict[str, Any], shape: tuple[int, ...]) -> None:
    cls = find(name)
    assert cls is not None
    loss = cls(**options)
    y, p = targets_and_outputs(name, shape)
    weight = RNG.uniform(0.5, 2.0, shape[:-1])
    mask = RNG.random(shape[:-1]) < 0.7
    mask.flat[0] = True
    _, grad = loss.value_and_grad(y, p.copy(), weight, mask)
    step = 1e-6
    for index in np.ndindex(*shape):
        moved = [p.copy(), p.copy()]
        moved[0][index] += step
        moved[1][index] -= step
        up, down = (loss.value_and_grad(y, m, weight, mask)[0] for m in moved)
        assert grad[index] == pytest.approx((up - down) / (2 * step), rel=1e-5, abs=1e-8)


def sigmoid(z: Any) -> Any:
    return 1 / (1 + np.exp(-z))


def softmax(z: Any) -> Any:
    e = np.exp(z - z.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("binary_crossentropy", {}),
        ("binary_crossentropy", {"label_smoothing": 0.2}),
        ("categorical_crossentropy", {"label_smoothing": 0.3}),
        ("sparse_categorical_crossentropy", {}),
        ("sparse_categorical_crossentropy", {"ignore_class": 2}),
    ],
)
def test_fused_gradient_is_the_one_through_the_activation(name: str, options: dict[str, Any]) -> None:
    cls = find(name)
    assert cls is not None
    loss = cls(**options)
    shape = (6, 4)
    y, _ = targets_and_outputs(name, shape)
    z = RNG.normal(size=shape)
    activation = sigmoid if loss.fuses == "sigmoid" else softmax
    weight = RNG.uniform(0.5, 2.0, shape[:-1])
    value, grad = loss.value_and_grad(y, activation(z), weight, fused=True)
    assert value == pytest.approx(loss.value_and_grad(y, activation(z), weight)[0], rel=1e-12)
    step = 1e-6
    for index in np.ndindex(*shape):
        moved = [z.copy(), z.copy()]
        moved[0][index] += step
        moved[1][index] -= step
        up, down = (loss.value_and_grad(y, activation(m), weight)[0] for m in moved)
        assert grad[index] == pytest.approx((up - down) / (2 * step), rel=1e-5, abs=1e-8)


def test_a_confident_wrong_answer_still_has_a_gradient() -> None:
    p = np.array([[1.0], [0.0]], np.float32)
    y = np.array([0, 1])
    value, grad = losses.BinaryCrossentropy().value_and_grad(y, p, fused=True)
    assert value == pytest.approx(-math.log(1e-7), rel=0.02)
    np.testing.assert_array_equal(grad, [[0.5], [-0.5]])


def test_outputs_that_are_no_probabilities_get_no_gradient() -> None:
    _, grad = losses.BinaryCrossentropy().value_and_grad(np.array([0.0, 1.0]), np.array([[1.5], [-2.0]]))
    np.testing.assert_array_equal(grad, [[0.0], [0.0]])


def test_from_logits_equals_the_activation_before_it_and_survives_large_ones() -> None:
    z = np.array([[-3.0, 0.5, 2.0], [1.0, -1.0, 0.0]])
    y = np.array([[0.0, 1.0, 1.0], [1.0, 0.0, 1.0]])
    one = losses.BinaryCrossentropy(from_logits=True)(y, z)
    assert one == pytest.approx(losses.BinaryCrossentropy()(y, sigmoid(z)), rel=1e-9)
    hot, index = np.eye(3)[[2, 0]], np.array([2, 0])
    other = losses.CategoricalCrossentropy(from_logits=True)(hot, z)
    assert other == pytest.approx(losses.CategoricalCrossentropy()(hot, softmax(z)), rel=1e-9)
    assert other == pytest.approx(losses.SparseCategoricalCrossentropy(from_logits=True)(index, z), rel=1e-12)
    assert losses.BinaryCrossentropy(from_logits=True)([[1.0]], [[-1000.0]]) == 1000.0
    assert losses.SparseCategoricalCrossentropy(from_logits=True)([1], [[1000.0, 0.0]]) == 1000.0


def test_reductions_with_weights_and_mask() -> None:
    y, p = RNG.normal(size=(4, 3, 2)), RNG.normal(size=(4, 3, 2))
    values = ((y - p) ** 2).mean(-1)
    w = RNG.uniform(0, 2, 4)
    mask = np.array([[1, 1, 0], [1, 0, 0], [0, 0, 0], [1, 1, 1]], bool)

    def loss(reduction: str, weight: Any = None, mask: Any = None) -> float:
        return losses.MeanSquaredError(reduction=reduction).value_and_grad(y, p, weight, mask)[0]

    assert loss("sum_over_batch_size") == pytest.approx(values.mean())
    assert loss("sum") == pytest.approx(values.sum())
    assert loss("sum_over_batch_size", w) == pytest.approx((values * w[:, None]).mean())
    assert loss("mean_with_sample_weight", w) == pytest.approx((values * w[:, None]).sum() / (3 * w.sum()))
    assert loss("sum_over_batch_size", None, mask) == pytest.approx(values[mask].mean())
    assert loss("sum_over_batch_size", w, mask) == pytest.approx((values * w[:, None])[mask].sum() / mask.sum())
    assert loss("sum_over_batch_size", None, np.zeros_like(mask)) == 0.0
    none = losses.MeanSquaredError(reduction="none")
    np.testing.assert_allclose(none(y, p), values)


def test_ignored_classes_count_for_nothing() -> None:
    p = softmax(RNG.normal(size=(2, 3, 4)))
    y = np.array([[-1, 2, 3], [0, -1, -1]])
    loss = losses.SparseCategoricalCrossentropy(ignore_class=-1)
    expected = -np.log([p[0, 1, 2], p[0, 2, 3], p[1, 0, 0]]).mean()
    value, grad = loss.value_and_grad(y, p)
    assert value == pytest.approx(expected)
    assert not grad[y == -1].any() and grad[y != -1].any(-1).all()


@pytest.mark.parametrize("y_shape", [(5,), (5, 1)])
def test_a_missing_last_axis_of_one_is_no_broadcast(y_shape: tuple[int, ...]) -> None:
    y, p = RNG.normal(size=5), RNG.normal(size=(5, 1))
    assert losses.mse(y.reshape(y_shape), p) == pytest.approx((y - p[:, 0]) ** 2)
    assert losses.MeanSquaredError()(y.reshape(y_shape), p) == pytest.approx(((y - p[:, 0]) ** 2).mean())


@pytest.mark.parametrize(
    ("y_shape", "p_shape"), [((5, 2), (5, 1)), ((4,), (5, 1)), ((5,), (5, 5)), ((5, 1), (5, 3, 1))]
)
def test_other_shapes_are_refused(y_shape: tuple[int, ...], p_shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"\[mean_squared_error\] y_true: expected the output's shape"):
        losses.MeanSquaredError()(np.zeros(y_shape), np.zeros(p_shape))


def test_sample_weights_of_a_wrong_shape_are_refused() -> None:
    with pytest.raises(ValueError, match=r"\[loss\] sample_weight: expected shape \(4,\) or \(4, 3\), got \(3,\)"):
        losses.MeanSquaredError()(np.zeros((4, 3, 1)), np.zeros((4, 3, 1)), np.ones(3))


def test_class_indices_out_of_range_are_refused() -> None:
    loss = losses.SparseCategoricalCrossentropy()
    for bad in (3, -1):
        with pytest.raises(ValueError, match=r"expected class indices from 0 to 2, got values from"):
            loss([0, bad], np.full((2, 3), 1 / 3))


@pytest.mark.parametrize(
    ("loss", "y", "shape", "message"),
    [
        ("mse", [0.0, np.nan], (None, 1), "expected finite numbers"),
        ("mse", [0.0, np.inf], (None, 1), "expected finite numbers"),
        ("mse", ["a", "b"], (None, 1), "expected numbers, got dtype"),
        ("bce", [-1, 1], (None, 1), "expected targets from 0 to 1 for binary_crossentropy, got values from -1 to 1"),
        ("sparse_categorical_crossentropy", [0, 3], (None, 3), "expected class indices from 0 to 2"),
        ("sparse_categorical_crossentropy", [0.5, 1.0], (None, 3), "expected whole class indices"),
        ("sparse_categorical_crossentropy", np.eye(3), (None, 3), "one-hot targets go with categorical_crossentropy"),
        ("categorical_crossentropy", [0, 1], (None, 3), "class indices go with sparse_categorical_crossentropy"),
        ("mse", np.zeros((2, 4)), (None, 3), "expected the output's shape"),
    ],
)
def test_targets_are_checked_before_training(loss: str, y: Any, shape: Any, message: str) -> None:
    with pytest.raises((ValueError, TypeError), match=message) as info:
        losses.get(loss).check_targets("fit", "y", np.asarray(y), shape)
    assert str(info.value).startswith("[fit] y: ")


def test_open_extents_fit_anything() -> None:
    losses.get("mse").check_targets("fit", "y", np.zeros((2, 7, 3)), (None, None, 3))
    losses.get("sparse_categorical_crossentropy").check_targets("fit", "y", np.zeros((2, 7), int), (None, None, 3))


@pytest.mark.parametrize("spelled", ["mse", "MSE", "mean_squared_error", "MeanSquaredError", losses.mse,
                                     losses.MeanSquaredError, losses.MeanSquaredError(),
                                     {"class_name": "MeanSquaredError", "config": {}}])  # fmt: skip
def test_every_spelling_finds_the_loss(spelled: Any) -> None:
    assert type(losses.get(spelled)) is losses.MeanSquaredError


def test_every_loss_goes_through_its_configuration() -> None:
    for name, options in CASES:
        cls = find(name)
        assert cls is not None
        loss = cls(**options)
        again = losses.deserialize(losses.serialize(loss))
        assert type(again) is cls and again.get_config() == loss.get_config()


@pytest.mark.parametrize("bad", ["nonsense", 3, {"class_name": "os.system"}, None])
def test_unknown_losses_are_refused(bad: Any) -> None:
    with pytest.raises(ValueError, match=r"\[compile\] loss: expected one of"):
        losses.get(bad)


def test_bad_arguments() -> None:
    with pytest.raises(ValueError, match=r"\[Huber\] delta: expected a positive finite number, got -1"):
        losses.Huber(-1)
    with pytest.raises(ValueError, match=r"\[BinaryCrossentropy\] label_smoothing: expected a number in \[0, 1\]"):
        losses.BinaryCrossentropy(label_smoothing=1.5)
    with pytest.raises(ValueError, match=r"\[MeanSquaredError\] reduction: expected one of"):
        losses.MeanSquaredError(reduction="average")


def test_a_users_function_gives_values_and_gradient() -> None:
    def quartic(y: Any, p: Any) -> Any:
        return ((y - p) ** 4).mean(-1), 4 * (p - y) ** 3 / p.shape[-1]

    y, p = RNG.normal(size=(3, 2)), RNG.normal(size=(3, 2))
    value, grad = losses.get(quartic).value_and_grad(y, p)
    assert value == pytest.approx(((y - p) ** 4).mean())
    np.testing.assert_allclose(grad, 4 * (p - y) ** 3 / 6)
    with pytest.raises(TypeError, match=r"expected a function that returns \(values, gradient\)"):
        losses.get(lambda y, p: (y - p) ** 2).value_and_grad(y, p)
