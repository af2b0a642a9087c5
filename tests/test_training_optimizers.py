"""Optimizers against formulas written down number by number, their common options, and the schedules."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from fastrnn import optimizers
from fastrnn.constraints import NonNeg
from fastrnn.layers import Variable
from fastrnn.optimizers import schedules

STEPS = 7


def variable(values: Any, dtype: str = "float64") -> Variable:
    return Variable(np.array(values, dtype=dtype), name="kernel")


def gradients(seed: int = 0, shape: tuple[int, ...] = (3, 2)) -> Iterator[Any]:
    rng = np.random.default_rng(seed)
    while True:
        yield rng.normal(size=shape)


# One weight as a plain number: (w, gradients) -> w after all of them. Keras 3's update rules.
Rule = Callable[[float, list[float]], float]


def sgd(lr: float = 0.01, momentum: float = 0.0, nesterov: bool = False) -> Rule:
    def rule(w: float, gs: list[float]) -> float:
        v = 0.0
        for g in gs:
            v = momentum * v - lr * g
            w += momentum * v - lr * g if nesterov else v
        return w

    return rule


def rmsprop(
    lr: float = 0.001, rho: float = 0.9, momentum: float = 0.0, eps: float = 1e-7, centered: bool = False
) -> Rule:
    def rule(w: float, gs: list[float]) -> float:
        s = a = b = 0.0
        for g in gs:
            s = rho * s + (1 - rho) * g * g
            a = rho * a + (1 - rho) * g
            step = lr * g / math.sqrt((s - a * a if centered else s) + eps)
            b = momentum * b + step
            w -= b
        return w

    return rule


def adam(lr: float = 0.001, b1: float = 0.9, b2: float = 0.999, eps: float = 1e-7, amsgrad: bool = False,
         decay: float = 0.0) -> Rule:  # fmt: skip
    def rule(w: float, gs: list[float]) -> float:
        m = v = top = 0.0
        for t, g in enumerate(gs, 1):
            w -= lr * decay * w
            m = b1 * m + (1 - b1) * g
            v = b2 * v + (1 - b2) * g * g
            top = max(top, v)
            w -= lr * math.sqrt(1 - b2**t) / (1 - b1**t) * m / (math.sqrt(top if amsgrad else v) + eps)
        return w

    return rule


def adamax(lr: float = 0.001, b1: float = 0.9, b2: float = 0.999, eps: float = 1e-7) -> Rule:
    def rule(w: float, gs: list[float]) -> float:
        m = u = 0.0
        for t, g in enumerate(gs, 1):
            m = b1 * m + (1 - b1) * g
            u = max(b2 * u, abs(g))
            w -= lr / (1 - b1**t) * m / (u + eps)
        return w

    return rule


def nadam(lr: float = 0.001, b1: float = 0.9, b2: float = 0.999, eps: float = 1e-7) -> Rule:
    def rule(w: float, gs: list[float]) -> float:
        m = v = 0.0
        product = 1.0
        for t, g in enumerate(gs, 1):
            now, following = (b1 * (1 - 0.5 * 0.96**k) for k in (t, t + 1))
            product *= now
            m = b1 * m + (1 - b1) * g
            v = b2 * v + (1 - b2) * g * g
            m_hat = following * m / (1 - product * following) + (1 - now) * g / (1 - product)
            w -= lr * m_hat / (math.sqrt(v / (1 - b2**t)) + eps)
        return w

    return rule


def adagrad(lr: float = 0.001, start: float = 0.1, eps: float = 1e-7) -> Rule:
    def rule(w: float, gs: list[float]) -> float:
        a = start
        for g in gs:
            a += g * g
            w -= lr * g / math.sqrt(a + eps)
        return w

    return rule


def adadelta(lr: float = 0.001, rho: float = 0.95, eps: float = 1e-7) -> Rule:
    def rule(w: float, gs: list[float]) -> float:
        a = d = 0.0
        for g in gs:
            a = rho * a + (1 - rho) * g * g
            step = math.sqrt(d + eps) / math.sqrt(a + eps) * g
            d = rho * d + (1 - rho) * step * step
            w -= lr * step
        return w

    return rule


def lion(lr: float = 0.001, b1: float = 0.9, b2: float = 0.99) -> Rule:
    def rule(w: float, gs: list[float]) -> float:
        m = 0.0
        for g in gs:
            w -= lr * math.copysign(1.0, b1 * m + (1 - b1) * g)
            m = b2 * m + (1 - b2) * g
        return w

    return rule


CASES: list[tuple[Any, Rule]] = [
    (optimizers.SGD(), sgd()),
    (optimizers.SGD(0.1, momentum=0.9), sgd(0.1, 0.9)),
    (optimizers.SGD(0.1, momentum=0.8, nesterov=True), sgd(0.1, 0.8, True)),
    (optimizers.RMSprop(), rmsprop()),
    (optimizers.RMSprop(0.01, rho=0.8, momentum=0.5, epsilon=1e-3), rmsprop(0.01, 0.8, 0.5, 1e-3)),
    (optimizers.RMSprop(0.01, centered=True), rmsprop(0.01, centered=True)),
    (optimizers.Adam(), adam()),
    (optimizers.Adam(0.1, 0.8, 0.9, 1e-2), adam(0.1, 0.8, 0.9, 1e-2)),
    (optimizers.Adam(0.1, beta_2=0.5, amsgrad=True), adam(0.1, b2=0.5, amsgrad=True)),
    (optimizers.AdamW(0.1), adam(0.1, decay=0.004)),
    (optimizers.AdamW(0.1, weight_decay=0.3), adam(0.1, decay=0.3)),
    (optimizers.Adamax(0.1), adamax(0.1)),
    (optimizers.Nadam(0.1), nadam(0.1)),
    (optimizers.Adagrad(0.1), adagrad(0.1)),
    (optimizers.Adagrad(0.1, 0.5, 1e-2), adagrad(0.1, 0.5, 1e-2)),
    (optimizers.Adadelta(1.0, 0.7), adadelta(1.0, 0.7)),
    (optimizers.Lion(0.1), lion(0.1)),
]


@pytest.mark.parametrize(("optimizer", "rule"), CASES)
@pytest.mark.parametrize(("dtype", "rel"), [("float64", 1e-12), ("float32", 2e-5)])
def test_formula(optimizer: Any, rule: Rule, dtype: str, rel: float) -> None:
    fresh = optimizers.deserialize(optimizers.serialize(optimizer))
    start = np.random.default_rng(5).normal(size=(3, 2))
    v = variable(start, dtype)
    source = gradients()
    gs = [next(source).astype(dtype) for _ in range(STEPS)]
    for g in gs:
        v.grad = g.copy()
        fresh.apply([v])
    for index in np.ndindex(3, 2):
        expected = rule(float(start[index]), [float(g[index]) for g in gs])
        assert v.value[index] == pytest.approx(expected, rel=rel, abs=rel)
    assert fresh.iterations == STEPS and v.dtype == dtype


@pytest.mark.parametrize("name", ["sgd", "rmsprop", "adam", "adamax", "nadam", "adagrad", "adadelta", "lion"])
def test_weight_decay_shrinks_before_the_step_and_spares_excluded_ones(name: str) -> None:
    lr, decay = 0.05, 0.2
    config = {"class_name": name, "config": {"learning_rate": lr}}
    plain = optimizers.get(config)
    config["config"]["weight_decay"] = decay  # type: ignore[index]
    decaying = optimizers.get(config)
    decaying.exclude_from_weight_decay(var_names=["bias"])
    start, g = np.array([1.0, -2.0]), np.array([0.3, 0.4])
    a, b, c = variable(start * (1 - lr * decay)), variable(start), variable(start)
    c.name = "bias"
    free = variable(start)
    for optimizer, vs in ((plain, [a, free]), (decaying, [b, c])):
        for v in vs:
            v.grad = g.copy()
        optimizer.apply(vs)
    np.testing.assert_allclose(b.value, a.value, rtol=1e-12)
    np.testing.assert_allclose(c.value, free.value, rtol=1e-12)
    assert not np.allclose(b.value, c.value)


def moved(optimizer: Any, *grads: Any) -> list[Any]:
    """The effective gradients: how far SGD with rate 1 moves."""
    vs = [variable(np.zeros_like(g, dtype=float)) for g in grads]
    for v, g in zip(vs, grads, strict=True):
        v.grad = np.array(g, dtype=float)
    optimizer.apply(vs)
    return [-v.value for v in vs]


def test_clipping_of_three_kinds() -> None:
    a, b = np.array([3.0, 4.0]), np.array([0.6, -0.8])
    got = moved(optimizers.SGD(1.0, clipnorm=2.0), a, b)
    np.testing.assert_allclose(got[0], a * 2 / 5)
    np.testing.assert_allclose(got[1], b)
    got = moved(optimizers.SGD(1.0, clipvalue=0.7), a, b)
    np.testing.assert_allclose(got[0], [0.7, 0.7])
    np.testing.assert_allclose(got[1], [0.6, -0.7])
    got = moved(optimizers.SGD(1.0, global_clipnorm=2.0), a, b)
    for g, original in zip(got, (a, b), strict=True):
        np.testing.assert_allclose(g, original * 2 / math.sqrt(26))
    got = moved(optimizers.SGD(1.0, global_clipnorm=6.0), a, b)
    np.testing.assert_allclose(got[0], a)
    assert np.isnan(moved(optimizers.SGD(1.0, clipnorm=1.0), np.array([np.nan, 1.0]))[0]).all()


@pytest.mark.parametrize(
    "pair", [("clipnorm", "clipvalue"), ("clipvalue", "global_clipnorm"), ("clipnorm", "global_clipnorm")]
)
def test_only_one_kind_of_clipping(pair: tuple[str, str]) -> None:
    with pytest.raises(ValueError, match=r"\[Adam\] \w+: expected only one of clipnorm, clipvalue, global_clipnorm"):
        optimizers.Adam(**{pair[0]: 1.0, pair[1]: 1.0})


def test_moving_averages() -> None:
    optimizer = optimizers.SGD(1.0, use_ema=True, ema_momentum=0.9)
    v = variable([0.0])
    path, average = [], 0.0
    for step, g in enumerate([-1.0, -2.0, -3.0]):
        v.grad = np.array([g])
        optimizer.apply([v])
        path.append(v.value[0])
        average = v.value[0] if step == 0 else 0.9 * average + 0.1 * v.value[0]
    assert path == [1.0, 3.0, 6.0]
    optimizer.finalize([v])
    assert v.value[0] == pytest.approx(average)
    often = optimizers.SGD(1.0, use_ema=True, ema_momentum=0.5, ema_overwrite_frequency=2)
    v = variable([0.0])
    for g in (-1.0, -2.0):
        v.grad = np.array([g])
        often.apply([v])
    assert v.value[0] == pytest.approx(0.5 * 1 + 0.5 * 3)


def test_constraints_hold_after_each_step_and_missing_gradients_leave_weights_alone() -> None:
    v, still = variable([0.05, 1.0]), variable([1.0])
    v.constraint = NonNeg()
    v.grad = np.array([1.0, 1.0])
    optimizers.SGD(0.1).apply([v, still])
    np.testing.assert_allclose(v.value, [0.0, 0.9])
    assert still.value[0] == 1.0


def test_apply_gradients_takes_pairs() -> None:
    v = variable([1.0, 2.0])
    optimizers.SGD(0.5).apply_gradients([(np.array([1.0, -1.0]), v)])
    np.testing.assert_allclose(v.value, [0.5, 2.5])
    with pytest.raises(ValueError, match=r"\[SGD\] grad: expected shape \(2,\) of kernel, got \(3,\)"):
        optimizers.SGD(0.5).apply_gradients([(np.ones(3), v)])


@pytest.mark.parametrize("name", ["SGD", "RMSprop", "Adam", "AdamW", "Adamax", "Nadam", "Adagrad", "Adadelta", "Lion"])
@pytest.mark.parametrize("rate", [-1, 0, float("nan"), float("inf")])
def test_bad_rates(name: str, rate: float) -> None:
    with pytest.raises(ValueError, match=rf"^\[{name}\] learning_rate: expected a positive finite number, got {rate}$"):
        getattr(optimizers, name)(learning_rate=rate)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: optimizers.SGD(momentum=-0.1), r"\[SGD\] momentum: expected a number in \[0, 1\], got -0.1"),
        (lambda: optimizers.Adam(beta_1=1.0), r"\[Adam\] beta_1: expected a number in \[0, 1\), got 1.0"),
        (lambda: optimizers.Adam(epsilon=-1), r"\[Adam\] epsilon: expected a finite number of at least 0, got -1"),
        (lambda: optimizers.AdamW(weight_decay=-1), r"\[AdamW\] weight_decay: expected a finite number of at least 0"),
        (lambda: optimizers.RMSprop(rho=float("nan")), r"\[RMSprop\] rho: expected a number in \[0, 1\), got nan"),
        (lambda: optimizers.Adam(clipnorm=0), r"\[Adam\] clipnorm: expected a positive finite number, got 0"),
        (lambda: optimizers.Adam("fast"), r"\[Adam\] learning_rate: expected a positive finite number, got 'fast'"),
        (lambda: optimizers.Adam(decay=-1), r"\[Adam\] decay: expected a finite number of at least 0, got -1"),
        (lambda: optimizers.get("adamm"), r"\[compile\] optimizer: expected one of .*adam.*, got 'adamm'"),
        (lambda: optimizers.get(None), r"\[compile\] optimizer: expected one of"),
    ],
)
def test_bad_arguments(make: Any, message: str) -> None:
    with pytest.raises((ValueError, TypeError), match=message):
        make()


@pytest.mark.parametrize("spec", ["adam", "Adam", optimizers.Adam, {"class_name": "Adam", "config": {}}])
def test_every_spelling(spec: Any) -> None:
    assert type(optimizers.get(spec)) is optimizers.Adam


def test_the_rate_can_be_read_and_set() -> None:
    optimizer = optimizers.Adam(0.5)
    assert optimizer.learning_rate == 0.5 and optimizer.lr == 0.5 and optimizer.learning_rate.numpy() == 0.5
    optimizer.learning_rate = 0.25
    optimizer.learning_rate.assign(0.125)
    assert float(optimizer.learning_rate) == 0.125
    optimizer.lr = 0.0
    assert optimizer.learning_rate == 0.0
    assert optimizers.get(optimizers.serialize(optimizer)).learning_rate == 0.0
    with pytest.raises(ValueError, match=r"\[Adam\] learning_rate: expected a finite number of at least 0, got -2"):
        optimizer.learning_rate = -2
    scheduled = optimizers.Adam(schedules.InverseTimeDecay(1.0, 1, 1.0))
    with pytest.raises(TypeError, match=r"\[Adam\] learning_rate: expected a schedule"):
        scheduled.learning_rate = 0.1


def test_a_schedule_counts_steps_and_the_older_words_work() -> None:
    optimizer = optimizers.SGD(schedules.PiecewiseConstantDecay([0, 1], [1.0, 0.1, 0.01]))
    v = variable([0.0])
    for _ in range(4):
        v.grad = np.array([-1.0])
        optimizer.apply([v])
    assert v.value[0] == pytest.approx(1.0 + 0.1 + 0.01 + 0.01)
    older = optimizers.SGD(lr=0.5, decay=1.0)
    rates = []
    for _ in range(3):
        rates.append(float(older.learning_rate))
        v.grad = np.array([0.0])
        older.apply([v])
    assert rates == pytest.approx([0.5, 0.25, 0.5 / 3])


SCHEDULES: list[tuple[Any, dict[int, float]]] = [
    (schedules.ExponentialDecay(0.5, 10, 0.1), {0: 0.5, 5: 0.5 * 0.1**0.5, 10: 0.05, 20: 0.005}),
    (schedules.ExponentialDecay(0.5, 10, 0.1, staircase=True), {9: 0.5, 10: 0.05, 19: 0.05}),
    (schedules.InverseTimeDecay(0.5, 10, 2.0), {0: 0.5, 5: 0.25, 10: 0.5 / 3}),
    (schedules.InverseTimeDecay(0.5, 10, 2.0, staircase=True), {9: 0.5, 10: 0.5 / 3}),
    (schedules.PiecewiseConstantDecay([3, 6], [1.0, 0.5, 0.1]), {0: 1.0, 3: 1.0, 4: 0.5, 6: 0.5, 7: 0.1}),
    (schedules.PolynomialDecay(1.0, 10, 0.2, 2.0), {0: 1.0, 5: 0.8 * 0.25 + 0.2, 10: 0.2, 99: 0.2}),
    (schedules.PolynomialDecay(1.0, 10, 0.0, cycle=True), {0: 1.0, 10: 0.0, 15: 0.25, 20: 0.0}),
    (schedules.CosineDecay(1.0, 10, 0.1), {0: 1.0, 5: 0.55, 10: 0.1, 50: 0.1}),
    (schedules.CosineDecay(0.0, 10, 0.0, warmup_target=2.0, warmup_steps=4), {0: 0.0, 1: 0.5, 4: 2.0, 9: 1.0, 14: 0.0}),
    (schedules.CosineDecayRestarts(1.0, 4, 2.0, 0.5), {0: 1.0, 2: 0.5, 4: 0.5, 8: 0.25, 12: 0.25}),
    (schedules.CosineDecayRestarts(1.0, 4, 1.0, 0.5), {0: 1.0, 4: 0.5, 6: 0.25, 8: 0.25, 4000: 0.0}),
    (schedules.OneCycle(1.0, 100, 0.3), {0: 0.04, 29: 1.0, 99: 0.04 / 1e4, 500: 0.04 / 1e4}),
]  # fmt: skip


@pytest.mark.parametrize(("schedule", "values"), SCHEDULES)
def test_schedule(schedule: Any, values: dict[int, float]) -> None:
    again = schedules.deserialize(schedules.serialize(schedule))
    for step, value in values.items():
        assert schedule(step) == pytest.approx(value, rel=1e-9, abs=1e-12)
        assert again(step) == schedule(step)


def test_one_cycle_is_that_of_torch() -> None:
    torch = pytest.importorskip("torch")
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    theirs = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.3, total_steps=57, pct_start=0.2)
    ours = schedules.OneCycle(0.3, 57, pct_start=0.2)
    for step in range(57):
        assert ours(step) == pytest.approx(theirs.get_last_lr()[0], rel=1e-6)
        optimizer.step()
        if step < 56:
            theirs.step()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: schedules.ExponentialDecay(-1, 10, 0.5), r"\[ExponentialDecay\] initial_learning_rate"),
        (lambda: schedules.ExponentialDecay(1, 0, 0.5), r"\[ExponentialDecay\] decay_steps"),
        (
            lambda: schedules.PiecewiseConstantDecay([1, 2], [0.1, 0.2]),
            r"expected one more than boundaries \(2\), got 2",
        ),
        (lambda: schedules.PiecewiseConstantDecay([2, 1], [0.1, 0.2, 0.3]), r"expected increasing steps"),
        (lambda: schedules.CosineDecay(1.0, 10, warmup_steps=-1), r"\[CosineDecay\] warmup_steps"),
        (lambda: schedules.OneCycle(1.0, 0), r"\[OneCycle\] total_steps: expected a positive integer, got 0"),
        (lambda: schedules.deserialize({"class_name": "os.system", "config": {}}), r"\[schedules\] class_name"),
    ],
)
def test_bad_schedules(make: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


def test_a_users_own_schedule() -> None:
    class Halving(schedules.LearningRateSchedule):
        def __call__(self, step: int) -> float:
            return 0.5**step

    optimizer = optimizers.SGD(Halving())
    v = variable([0.0])
    for _ in range(3):
        v.grad = np.array([-1.0])
        optimizer.apply([v])
    assert v.value[0] == 1.75
