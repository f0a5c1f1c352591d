"""The exponential moving average of a model, the weights that are evaluated and shipped."""

from __future__ import annotations

import copy

import torch
from torch import nn


class MovingAverage:
    """Average of parameters and buffers: after the first update a copy, then `decay` of itself plus the rest of the
    model. Counters (integer buffers) are copied.

    Not torch's `AveragedModel`, which moves its count of updates between host and device in every step and so makes
    the host wait.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.module, self.decay, self.n_averaged = copy.deepcopy(model), decay, 0

    @torch.no_grad()
    def update_parameters(self, model: nn.Module) -> None:
        """Take the weights of `model` after one more step into the average."""
        pairs = list(zip(_tensors(self.module), _tensors(model), strict=True))
        averaged = [(own, new) for own, new in pairs if own.is_floating_point() and self.n_averaged]
        copied = [(own, new) for own, new in pairs if not (own.is_floating_point() and self.n_averaged)]
        if averaged:
            torch._foreach_lerp_(*map(list, zip(*averaged)), 1 - self.decay)
        if copied:
            torch._foreach_copy_(*map(list, zip(*copied)))
        self.n_averaged += 1


def _tensors(model: nn.Module) -> list[torch.Tensor]:
    return [*model.parameters(), *model.buffers()]
