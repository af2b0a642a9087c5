"""Initializers, regularizers and constraints: distributions, derivatives, specifications, wrong arguments."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from fastrnn import constraints, initializers, regularizers

SHAPE = (300, 200)


@pytest.mark.parametrize(
    ("name", "deviation", "bound"),
    [
        ("glorot_uniform", np.sqrt(2 / 500), np.sqrt(6 / 500)),
        ("glorot_normal", np.sqrt(2 / 500), None),
        ("he_uniform", np.sqrt(2 / 300), np.sqrt(6 / 300)),
        ("he_normal", np.sqrt(2 / 300), None),
        ("lecun_uniform", np.sqrt(1 / 300), np.sqrt(3 / 300)),
        ("lecun_normal", np.sqrt(1 / 300), None),
        ("variance_scaling", np.sqrt(1 / 300), None),
        ("random_uniform", 0.1 / np.sqrt(12), 0.05),
        ("random_normal", 0.05, None),
        ("truncated_normal", 0.05 * 0.87962566, 0.1),
    ],
)
def test_distributions(name: str, deviation: float, bound: float | None) -> None:
    initializers.set_seed(3)
    w = initializers.get(name)(SHAPE)
    assert w.shape == SHAPE and w.dtype == np.float32 and w.flags.c_contiguous
    assert abs(w.mean()) < 0.02 * deviation + 3 * deviation / np.sqrt(w.size)
    assert w.std() == pytest.approx(deviation, rel=0.01)
    if bound is not None:
        assert 0.99 * bound < np.abs(w).max() <= bound * 1.0001
    if name.endswith("normal") and name not in ("random_normal", "truncated_normal"):
        assert np.abs(w).max() <= 2.0001 * deviation / 0.87962566


def test_fans_of_convolutions() -> None:
    assert initializers.compute_fans((7, 32, 64)) == (224, 448)
    w = initializers.GlorotUniform(seed=1)((7, 32, 64))
    assert np.abs(w).max() == pytest.approx(np.sqrt(6 / (224 + 448)), rel=0.01)


@pytest.mark.parametrize("shape", [(8, 8), (8, 32), (32, 8), (2, 3, 4), (3, 2, 20)])
def test_orthogonal(shape: tuple[int, ...]) -> None:
    w = initializers.Orthogonal(gain=2.0, seed=0)(shape, dtype="float64")
    m = w.reshape(-1, shape[-1]) / 2.0
    square = m @ m.T if m.shape[0] <= m.shape[1] else m.T @ m
    np.testing.assert_allclose(square, np.eye(len(square)), atol=1e-12)
    # QR alone would fix the signs of a corner
    corners = [initializers.Orthogonal(seed=s)((4, 4))[0, 0] for s in range(40)]
    assert min(corners) < -0.1 and max(corners) > 0.1


def test_constants() -> None:
    np.testing.assert_array_equal(initializers.get("zeros")((2, 3)), np.zeros((2, 3)))
    np.testing.assert_array_equal(initializers.get("ones")((2,), "float64"), [1.0, 1.0])
    np.testing.assert_array_equal(initializers.Constant(2.5)((2,)), [2.5, 2.5])
    np.testing.assert_array_equal(initializers.get(0.25)((2,)), [0.25, 0.25])
    np.testing.assert_array_equal(initializers.Identity(3.0)((2, 3)), [[3, 0, 0], [0, 3, 0]])
    np.testing.assert_array_equal(initializers.get(np.arange(3))((3,)), [0, 1, 2])


def test_seeds() -> None:
    a = initializers.GlorotUniform(seed=4)
    np.testing.assert_array_equal(a((3, 3)), a((3, 3)))
    np.testing.assert_array_equal(a((3, 3)), a((3, 3), "float64").astype(np.float32))
    initializers.set_seed(7)
    first = initializers.get("he_normal")((3, 3))
    assert not np.array_equal(first, initializers.get("he_normal")((3, 3)))
    initializers.set_seed(7)
    np.testing.assert_array_equal(initializers.get("he_normal")((3, 3)), first)
    for bad, error in [(-1, ValueError), (1.5, TypeError)]:
        with pytest.raises(error, match=r"\[set_seed\] seed: expected"):
            initializers.set_seed(bad)  # type: ignore[arg-type]


def test_functions_of_the_user() -> None:
    assert (initializers.get(lambda shape, dtype=None: np.full(shape, 3.0))((2, 2)) == 3).all()
    assert (initializers.get(lambda shape: np.full(shape, 3.0))((2, 2)) == 3).all()
    with pytest.raises(ValueError, match=r"expected shape \(2, 2\), got \(3,\)"):
        initializers.get(lambda shape: np.ones(3))((2, 2))
    with pytest.raises(TypeError, match="expected a named initializer"):
        initializers.serialize(initializers.get(lambda shape: np.ones(shape)))


@pytest.mark.parametrize(
    ("module", "specs"),
    [
        (initializers, ["glorot_uniform", "HeNormal", "orthogonal", initializers.Constant(3.0), "zeros",
                        initializers.RandomUniform(-1, 2, seed=3),
                        initializers.VarianceScaling(2.0, "fan_out", "uniform"),
                        initializers.TruncatedNormal(0.5, 0.1), initializers.Orthogonal(gain=0.5), "identity",
                        initializers.Constant(np.eye(2)), initializers.GlorotUniform]),
        (regularizers, ["l1", "L2", "l1_l2", regularizers.L1(0.3), regularizers.L1L2(0.1, 0.2), regularizers.l2(0.5)]),
        (constraints, ["max_norm", "NonNeg", "unit_norm", constraints.MaxNorm(3, axis=[0, 1]),
                       constraints.MinMaxNorm(0.5, 1.5, rate=0.3)]),
    ],
    ids=["initializers", "regularizers", "constraints"],
)  # fmt: skip
def test_specifications(module: Any, specs: list[Any]) -> None:
    w = np.random.default_rng(0).normal(size=(2, 2))
    for spec in specs:
        one = module.get(spec)
        assert module.get(one) is one
        written = json.loads(json.dumps(module.serialize(one)))
        two = module.deserialize(written)
        assert type(two) is type(one) and two.get_config() == one.get_config()
        assert type(one).from_config(one.get_config()).get_config() == one.get_config()
        if module is not initializers:
            np.testing.assert_array_equal(one(w), two(w))
    for bad in ("no_such", {"class_name": "no_such", "config": {}}):
        with pytest.raises(ValueError, match=r"name: expected one of .*, got 'no_such'"):
            module.get(bad)
    with pytest.raises(TypeError, match="spec: expected a name"):
        module.get(["l2"])
    with pytest.raises(ValueError, match="config: expected the arguments of"):
        module.get({"class_name": specs[0], "config": {"nonsense": 1}})


def test_penalties() -> None:
    w = np.array([[1.0, -2.0], [0.0, 3.0]])
    assert regularizers.L1(0.5)(w) == pytest.approx(3.0)
    assert regularizers.L2(0.5)(w) == pytest.approx(7.0)
    assert regularizers.L1L2(0.5, 0.5)(w) == pytest.approx(10.0)
    assert regularizers.get(None) is None
    assert regularizers.L1().l1 == regularizers.L2().l2 == regularizers.l1_l2().l1 == 0.01
    np.testing.assert_allclose(regularizers.L1L2(0.5, 0.5).gradient(w), [[1.5, -2.5], [0.0, 3.5]])
    assert regularizers.L2(0.1).gradient(w.astype(np.float32)).dtype == np.float32
    for bad, error in [(-0.1, ValueError), (float("inf"), ValueError), ("0.1", TypeError), (True, TypeError)]:
        with pytest.raises(error, match=r"\[L2\] l2: expected a finite number of at least 0"):
            regularizers.L2(bad)


def test_projections() -> None:
    w = np.random.default_rng(0).normal(size=(6, 4)).astype(np.float32) * 2
    norms = np.linalg.norm(w, axis=0)
    one = constraints.MaxNorm(norms.mean())(w)
    np.testing.assert_allclose(np.linalg.norm(one, axis=0), np.minimum(norms, norms.mean()), rtol=1e-5)
    np.testing.assert_array_equal(constraints.NonNeg()(w), np.maximum(w, 0))
    np.testing.assert_allclose(np.linalg.norm(constraints.UnitNorm(axis=1)(w), axis=1), 1, rtol=1e-5)
    low, high = np.sort(norms)[1], np.sort(norms)[2]
    bounded = constraints.MinMaxNorm(low, high, rate=0.25)(w)
    wanted = 0.25 * np.clip(norms, low, high) + 0.75 * norms
    np.testing.assert_allclose(np.linalg.norm(bounded, axis=0), wanted, rtol=1e-5)
    assert one.dtype == bounded.dtype == np.float32
    for build, message in [
        (lambda: constraints.MaxNorm(-1), r"\[MaxNorm\] max_value"),
        (lambda: constraints.MinMaxNorm(2, 1), r"\[MinMaxNorm\] max_value: expected a finite number of at least 2"),
        (lambda: constraints.MinMaxNorm(rate=2), r"\[MinMaxNorm\] rate: expected a number in \[0, 1\]"),
    ]:
        with pytest.raises(ValueError, match=message):
            build()
    with pytest.raises(TypeError, match=r"\[UnitNorm\] axis: expected an integer"):
        constraints.UnitNorm(axis=0.5)


@pytest.mark.parametrize(
    ("build", "error", "message"),
    [
        (lambda: initializers.VarianceScaling(0), ValueError, r"\[VarianceScaling\] scale: expected a positive number"),
        (lambda: initializers.VarianceScaling(mode="in"), ValueError, r"\[VarianceScaling\] mode"),
        (lambda: initializers.VarianceScaling(distribution="cauchy"), ValueError, "distribution"),
        (lambda: initializers.RandomNormal(stddev=-1), ValueError, r"\[RandomNormal\] stddev"),
        (lambda: initializers.RandomUniform(1, 0), ValueError, r"\[RandomUniform\] maxval"),
        (lambda: initializers.Orthogonal()((3,)), ValueError, r"\[Orthogonal\] shape: expected at least two axes"),
        (lambda: initializers.GlorotUniform(seed=-1), ValueError, r"\[GlorotUniform\] seed"),
        (lambda: initializers.GlorotUniform(seed=0.5), TypeError, r"\[GlorotUniform\] seed"),
    ],
)  # fmt: skip
def test_wrong_arguments(build: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        build()
