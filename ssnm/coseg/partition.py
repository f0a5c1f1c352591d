"""How the images of one class are cut into groups: SSNM's test policy, apart from the predictor."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..errors import ConfigError

ORDERS = ("natural", "strided", "shuffled", "whole")


@dataclass(frozen=True)
class Chunk:
    """members: image numbers of the group, in order; new: how many of them are predicted here for the first
    time (the rest fill the group up and their second predictions are dropped)."""

    members: tuple[int, ...]
    new: int


def partition(count: int, group_size: int = 5, order: str = "natural", seed: int = 0) -> list[Chunk]:
    """Cut `count` images of a class into groups of `group_size`.

    order: "natural" consecutive images (the release); "strided" every k-th image, so that neighbours fall into
    different groups; "shuffled" by `seed`; "whole" one group of all. The last group is filled up with the first
    images of the order, as the release does; a class smaller than a group is repeated.

    >>> [c.members for c in partition(7, 5)]
    [(0, 1, 2, 3, 4), (5, 6, 0, 1, 2)]

    Raises:
        ConfigError: unknown order, or a group size below 1.
    """
    if order not in ORDERS:
        raise ConfigError(f"grouping must be one of {', '.join(ORDERS)}, got {order!r}")
    if group_size < 1:
        raise ConfigError(f"the group size must be at least 1, got {group_size}")
    if count == 0:
        return []
    if order == "whole":
        return [Chunk(tuple(range(count)), count)]
    sequence = list(range(count))
    if order == "shuffled":
        sequence = [int(i) for i in np.random.default_rng(seed).permutation(count)]
    elif order == "strided":
        stride = -(-count // group_size)
        sequence = [i for first in range(stride) for i in range(first, count, stride)]
    chunks = []
    for begin in range(0, count, group_size):
        new = sequence[begin : begin + group_size]
        fill = [sequence[i % count] for i in range(group_size - len(new))]
        chunks.append(Chunk((*new, *fill), len(new)))
    return chunks
