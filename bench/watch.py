"""Whether the machine is in its usual state, beside every round of turns.

The host of a virtual machine moves its processors about: for seconds, two of them may sit on one core, where both
together compute as much as one, or far from each other, where what one thread writes reaches the other several times
later. Both last longer than a case's turns, so that a median does not help. What the machine does in this respect is
measured, on fastrnn's threads, before and after every round; no library's time has a part in it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

R = TypeVar("R")

PATIENCE = 20.0  # seconds that a case waits, or spends on rounds that do not count
CLOSE = 2.0  # meetings take at most so many times as long as the fastest
WHOLE = 0.95  # the multiply-adds of all threads reach at least this share of the best
FIRST_LOOKS = 12


@dataclass(frozen=True)
class Look:
    """The machine at one moment."""

    peak: float  # GFLOP/s of multiply-adds on all threads
    meeting: float  # seconds in which all threads meet once; 0: there is one thread, or no other came


@dataclass
class Watch:
    """Looks at the machine, and knows its best state from all looks before."""

    state: Callable[[], tuple[float, float]]  # a Look, from a process of fastrnn that has all threads
    looks: list[Look] = field(default_factory=list)

    def look(self) -> Look:
        self.looks.append(Look(*self.state()))
        return self.looks[-1]

    def usual(self, look: Look) -> bool:
        whole = WHOLE * max(other.peak for other in self.looks)
        meetings = [other.meeting for other in self.looks if other.peak >= whole and other.meeting > 0]
        return look.peak >= whole and (not meetings or 0 < look.meeting <= CLOSE * min(meetings))

    def wait(self, seconds: float) -> bool:
        """Until the machine is as usual, at most so long: whether it is."""
        while len(self.looks) < FIRST_LOOKS:
            self.look()
        end = time.perf_counter() + seconds
        while not (usual := self.usual(self.look())) and time.perf_counter() < end:
            time.sleep(0.02)
        return usual

    def steady(self, round_of_turns: Callable[[], R], patience: float) -> tuple[R, bool, float]:
        """The result of a round beside which the machine was as usual: that is awaited, and other rounds are repeated,
        as long as there is patience. Also whether it was, and the patience (seconds) left."""
        while True:
            begin = time.perf_counter()
            usual = self.wait(patience)
            start = time.perf_counter()
            patience -= start - begin
            result = round_of_turns()
            usual = usual and self.usual(self.look())
            if usual or patience <= 0:
                return result, usual, patience
            patience -= time.perf_counter() - start
