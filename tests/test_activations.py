"""Names, parameters, aliases and callables of the activations, and their values against formulas written out here."""

from __future__ import annotations

import math

import numpy as np
import pytest

from fastrnn import activations, reference
from fastrnn.activations import Activation, parse

POINTS = [-30.0, -3.1, -1.2, -0.4, 0.0, 0.3, 0.9, 1.7, 3.2, 25.0]
SIGMOID = {x: 1 / (1 + math.exp(-x)) for x in POINTS}
EXPECTED = {
    "linear": lambda x: x,
    "tanh": math.tanh,
    "sigmoid": lambda x: SIGMOID[x],
    "relu": lambda x: max(x, 0.0),
    "hard_sigmoid": lambda x: min(max(x / 6 + 0.5, 0.0), 1.0),
    "elu": lambda x: x if x > 0 else math.exp(x) - 1,
    "leaky_relu": lambda x: x if x > 0 else 0.2 * x,
    "softsign": lambda x: x / (1 + abs(x)),
    "softplus": lambda x: math.log1p(math.exp(x)),
    "scaled_tanh": math.tanh,
    "affine": lambda x: x,
    "thresholded_relu": lambda x: x if x > 1 else 0.0,
    "selu": lambda x: 1.0507009873554805 * (x if x > 0 else 1.6732632423543772 * (math.exp(x) - 1)),
    "gelu": lambda x: 0.5 * x * (1 + math.erf(x / math.sqrt(2))),
    "silu": lambda x: x * SIGMOID[x],
    "exponential": math.exp,
}
WITH_PARAMETERS = {
    ("hard_sigmoid", 0.2, 0.4): lambda x: min(max(0.2 * x + 0.4, 0.0), 1.0),
    ("elu", 0.7): lambda x: x if x > 0 else 0.7 * (math.exp(x) - 1),
    ("leaky_relu", 0.05): lambda x: x if x > 0 else 0.05 * x,
    ("scaled_tanh", 1.7, 0.6): lambda x: 1.7 * math.tanh(0.6 * x),
    ("affine", -1.5, 0.25): lambda x: -1.5 * x + 0.25,
    ("thresholded_relu", -0.5): lambda x: x if x > -0.5 else 0.0,
}


def test_order_of_ids() -> None:
    first = "linear tanh sigmoid relu hard_sigmoid elu leaky_relu softsign softplus scaled_tanh affine"
    last = "thresholded_relu selu gelu silu exponential"
    assert list(activations.NAMES) == [*first.split(), *last.split()]
    assert [parse(name).id for name in activations.NAMES] == list(range(16))


@pytest.mark.parametrize("name", EXPECTED)
def test_values(name: str) -> None:
    expected = [EXPECTED[name](x) for x in POINTS]
    np.testing.assert_allclose(reference.activation(np.array(POINTS), name), expected, rtol=1e-13, atol=1e-13)
    single = reference.activation(np.array(POINTS, np.float32), name)
    assert single.dtype == np.float32
    np.testing.assert_allclose(single, expected, rtol=2e-6, atol=1e-6)


@pytest.mark.parametrize("spec", WITH_PARAMETERS, ids=str)
def test_values_with_parameters(spec: tuple[object, ...]) -> None:
    expected = [WITH_PARAMETERS[spec](x) for x in POINTS]  # type: ignore[index]
    np.testing.assert_allclose(reference.activation(np.array(POINTS), spec), expected, rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("spec", [*EXPECTED, *WITH_PARAMETERS], ids=str)
def test_derivatives(spec: object) -> None:
    x = np.array([p + 0.0123 for p in POINTS if abs(p) < 20])
    e = 1e-6
    numeric = (reference.activation(x + e, spec) - reference.activation(x - e, spec)) / (2 * e)
    one = np.full_like(x, 3.0)
    np.testing.assert_allclose(reference.activation_backward(x, one, spec), 3 * numeric, rtol=1e-7, atol=1e-8)


@pytest.mark.parametrize("spec", sorted(activations.FUSED))
def test_derivative_from_the_result(spec: str) -> None:
    from fastrnn.reference.pointwise import d_f, d_f_of_y

    x = np.array([p + 0.0123 for p in POINTS if abs(p) < 20])
    y = reference.activation(x, spec)
    np.testing.assert_allclose(d_f_of_y(y, parse(spec)), d_f(x, parse(spec)), rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("name", EXPECTED)
def test_extremes(name: str) -> None:
    with np.errstate(over="ignore", invalid="ignore"):
        y = reference.activation(np.array([np.nan, 1e4, -1e4], np.float32), name)
    assert np.isnan(y[0])
    assert not np.isnan(y[1:]).any()


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        (None, Activation("linear")),
        ("tanh", Activation("tanh")),
        ("Tanh", Activation("tanh")),
        ("swish", Activation("silu")),
        ("exp", Activation("exponential")),
        ("hard_sigmoid", Activation("hard_sigmoid", 1 / 6, 0.5)),
        (("elu", 0.5), Activation("elu", 0.5)),
        (["affine", 2, 3], Activation("affine", 2.0, 3.0)),
        (("relu",), Activation("relu")),
        ({"name": "leaky_relu", "alpha": 0.1}, Activation("leaky_relu", 0.1)),
        ({"name": "scaled_tanh", "alpha": None, "beta": 2.0}, Activation("scaled_tanh", 1.0, 2.0)),
        ({"module": "builtins", "class_name": "function", "config": "relu"}, Activation("relu")),
        (Activation("elu", 0.3), Activation("elu", 0.3)),
        (activations.relu, Activation("relu")),
        (activations.swish, Activation("silu")),
    ],
    ids=str,
)
def test_parse(spec: object, expected: Activation) -> None:
    assert parse(spec) == expected  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("spec", "error"),
    [
        ("tahn", ValueError),
        ("softmax", ValueError),
        (activations.softmax, ValueError),
        (("relu", 0.1), ValueError),
        (("elu", 0.1, 0.2), ValueError),
        (("elu", math.nan), ValueError),
        (("elu", -0.1), ValueError),
        (("elu", math.inf), ValueError),
        (("elu", "a"), TypeError),
        (("elu", True), TypeError),
        ((), ValueError),
        ((1, 2), TypeError),
        ({"alpha": 1.0}, ValueError),
        ({"name": "elu", "gamma": 1.0}, ValueError),
        (Activation("nothing"), ValueError),
        (3, TypeError),
        (math.tanh, TypeError),
    ],
    ids=str,
)
def test_parse_refuses(spec: object, error: type[Exception]) -> None:
    with pytest.raises(error, match=r"^\[activation\] .*expected .*, got "):
        parse(spec)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", activations.NAMES)
def test_callables(name: str) -> None:
    function = getattr(activations, name)
    assert function.spec == parse(name) and function.__name__ == name
    assert activations.get(name) is function and activations.get(function) is function
    assert activations.serialize(function) == name
    x = np.array([[-1.5, 0.5, 2.0]], np.float32)
    y = function(x)
    assert y.dtype == np.float32
    np.testing.assert_allclose(y, reference.activation(x, name), rtol=1e-6, atol=1e-6)
    assert function([1, 2]).dtype == np.float32


def test_parameters_survive_serialisation() -> None:
    assert activations.serialize(("elu", 0.5)) == {"name": "elu", "alpha": 0.5}
    assert activations.serialize(("elu", 1.0)) == "elu"
    for spec in WITH_PARAMETERS:
        assert parse(activations.serialize(spec)) == parse(spec)
        assert activations.get(spec).spec == parse(spec)  # type: ignore[attr-defined]


def test_softmax_and_foreign_callables() -> None:
    assert activations.get("softmax") is activations.softmax and activations.serialize("softmax") == "softmax"
    np.testing.assert_allclose(activations.softmax([[0.0, math.log(3.0)]]), [[0.25, 0.75]], rtol=1e-6)

    def own(x: object) -> object:
        return x

    assert activations.get(own) is own
