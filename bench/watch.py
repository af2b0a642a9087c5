"""Whether the machine is in its usual state, beside every round of turns.

The host of a virtual machine moves its processors about: for seconds, two of them may sit on one core, where both
together compute as much as one, or far from each other, where what one thread writes reaches the other several times
later. Both last longer than a case's turns, so that a median does not help. What the machine does in this respect is
measured, on fastrnn's threads, before and after every round; no library's time has a part in it.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bench.pool import Process

CLOSE = 2.0  # meetings take at most so many times as long as the fastest
WHOLE = 0.95  # the multiply-adds of all threads reach at least this share of the best
FIRST_LOOKS = 12


@dataclass(frozen=True)
class Look:
    """The machine at one moment."""

    peak: float  # GFLOP/s of multiply-adds on all threads
    meeting: float  # seconds in which all threads meet once


@dataclass
class Watch:
    """Looks at the machine through a worker of fastrnn, and knows its best state from all looks before."""

    process: Process  # with all threads
    looks: list[Look] = field(default_factory=list)

    def look(self) -> Look:
        self.looks.append(Look(*self.process.ask("state", self.process.threads)))
        return self.looks[-1]

    def usual(self, look: Look) -> bool:
        whole = WHOLE * max(other.peak for other in self.looks)
        closest = min(other.meeting for other in self.looks if other.peak >= whole)
        return look.peak >= whole and look.meeting <= CLOSE * closest

    def wait(self, seconds: float) -> bool:
        """Until the machine is as usual, at most so long: whether it is."""
        while len(self.looks) < FIRST_LOOKS:
            self.look()
        end = time.perf_counter() + seconds
        while not (usual := self.usual(self.look())) and time.perf_counter() < end:
            time.sleep(0.02)
        return usual
