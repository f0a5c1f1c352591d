"""What the groups of a training step are made of: the section data.mix of a config. No torch."""

from __future__ import annotations

from dataclasses import dataclass, replace

from ..errors import ConfigError
from ..ranges import NOT_NEGATIVE, POSITIVE, SHARE, require, values


@dataclass(frozen=True)
class GroupMix:
    """How much of the training makes single images useless (see docs/training.md).

    real: share of the groups, two by two, that hold the same two-category images, once in a group of each category.
    pasted: share of the groups, two by two, made two-category by pasting an object of the other category.
    distractor: probability that a distractor object of an unrelated category is pasted into an image of an
        ordinary slot.
    shared: how many of the images two paired groups share.
    foreign: probability that an ordinary group holds one or two images without its category, whose truth is empty.
    alike: probability that the other category of a pasted pair or of a foreign image is one of the same kind, a cat
        beside a dog (ssnm.data.kinship), where there is one; else any.
    reference: share of the groups that are steered by one of their images, whose mask is given (ssnm.coseg.reference).
    ramp: over so many steps the shares of contrast pairs and of groups with foreign images grow from 0 to the values
        above: a network that has not learned to segment has nothing to choose with.
    """

    real: float = 0.0
    pasted: float = 0.0
    distractor: float = 0.0
    shared: int = 2
    foreign: float = 0.0
    alike: float = 0.0
    reference: float = 0.0
    ramp: int = 0

    def __post_init__(self) -> None:
        require(values("data.mix", self, "shared"), *POSITIVE)
        require(values("data.mix", self, "ramp"), *NOT_NEGATIVE)
        require(values("data.mix", self, "real", "pasted", "distractor", "foreign", "alike", "reference"), *SHARE)
        if self.real + self.pasted > 1:
            raise ConfigError(f"data.mix.real + data.mix.pasted must not exceed 1, got {self.real + self.pasted:g}")

    def at(self, step: int) -> GroupMix:
        """The mix of one step."""
        if step >= self.ramp:
            return self
        part = step / self.ramp
        return replace(self, real=part * self.real, pasted=part * self.pasted, foreign=part * self.foreign)
