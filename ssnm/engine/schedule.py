"""Learning-rate schedules as pure functions of the step, so that resuming needs no state."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Schedule:
    """Factor on the base learning rate.

    name: "halving" 0.5 every `every` steps (paper, section 4.1); "cosine" to zero at `steps`; "constant".
    warmup: steps of linear increase before that. reset_every: see :meth:`resets_optimizer`.
    """

    name: str
    steps: int
    every: int = 25_000
    warmup: int = 0
    reset_every: int = 0

    def factor(self, step: int) -> float:
        """The factor for 0-based `step`.

        >>> Schedule("halving", 100, every=10).factor(25)
        0.25
        """
        if step < self.warmup:
            return (step + 1) / (self.warmup + 1)
        if self.name == "halving":
            return 0.5 ** (step // self.every)
        if self.name == "cosine":
            progress = (step - self.warmup) / max(self.steps - self.warmup, 1)
            return 0.5 * (1 + math.cos(math.pi * min(progress, 1.0)))
        return 1.0

    def resets_optimizer(self, step: int) -> bool:
        """Whether 0-based `step` begins with a new optimiser, whose moments are empty.

        >>> schedule = Schedule("constant", 100, reset_every=10)
        >>> [step for step in range(30) if schedule.resets_optimizer(step)]
        [10, 20]
        """
        return self.reset_every > 0 and step > 0 and step % self.reset_every == 0
