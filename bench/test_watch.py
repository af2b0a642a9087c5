"""Rounds count when the machine is in its usual state, and only for so long."""

from typing import Any

import pytest

from bench import pool
from bench.watch import FIRST_LOOKS, Watch

# GFLOP/s, seconds to meet
NEAR, FAR, HALF, NOBODY, ALONE = (236.0, 7e-8), (235.0, 4e-7), (119.0, 2e-8), (236.0, 0.0), (118.0, 0.0)


class Machine:
    """A worker whose machine is in one state after another, then in the last one."""

    def __init__(self, *states: tuple[float, float]) -> None:
        self.states, self.turns = [NEAR] * FIRST_LOOKS + list(states), 0

    def ask(self, request: str, *arguments: Any) -> Any:
        assert request == "turn"
        self.turns += 1
        return [0.01]

    def state(self) -> tuple[float, float]:
        return self.states.pop(0) if len(self.states) > 1 else self.states[0]


@pytest.mark.parametrize("bad", [FAR, HALF, NOBODY])
def test_only_the_usual_state_is_usual(bad: tuple[float, float]) -> None:
    watch = Watch(Machine(NEAR, bad).state)
    assert watch.wait(0.0)
    assert not watch.wait(0.0)


def test_one_thread_meets_nobody() -> None:
    machine = Machine(ALONE)
    machine.states = [ALONE]
    assert Watch(machine.state).wait(0.0)


def test_rounds_in_another_state_do_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool, "PAUSE", 0.0)
    machine = Machine(NEAR, FAR, NEAR, HALF, NEAR)  # the first two rounds end badly
    entry = pool._Entry(machine, 0.0)  # type: ignore[arg-type]
    assert pool._take_turns([entry], 1.0, Watch(machine.state)) == 0  # type: ignore[arg-type]
    assert (len(entry.samples), machine.turns) == (pool.TURNS, pool.TURNS + 2)


def test_at_the_end_of_patience_they_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool, "PAUSE", 0.0)
    machine = Machine(FAR)
    entry = pool._Entry(machine, 0.0)  # type: ignore[arg-type]
    assert pool._take_turns([entry], 1.0, Watch(machine.state), patience=0.05) == pool.TURNS  # type: ignore[arg-type]
    assert len(entry.samples) == pool.TURNS
