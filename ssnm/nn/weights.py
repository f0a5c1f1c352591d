"""Strict loading of weights: the one place that compares the keys of a file with those of a network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from ..errors import CheckpointError
from ..naming import counted


def key_differences(expected: Mapping[str, Sequence[int]], weights: Mapping[str, Tensor]) -> list[str]:
    """What differs from the shapes `expected`, as ``2 missing (first: head.weight)``; empty where nothing does."""
    missing, extra = [k for k in expected if k not in weights], [k for k in weights if k not in expected]
    wrong = [f"{k} is {tuple(weights[k].shape)}, wanted {tuple(shape)}"
             for k, shape in expected.items() if k in weights and tuple(weights[k].shape) != tuple(shape)]  # fmt: skip
    lists = ((missing, "missing"), (extra, "unexpected"), (wrong, "of another shape"))
    return [f"{len(keys)} {what} (first: {keys[0]})" for keys, what in lists if keys]


def load_weights(model: nn.Module, weights: Mapping[str, Tensor], where: str) -> None:
    """Copy `weights` into `model`; every key must be there, in its shape, and finite. float16 is widened.

    Args:
        where: the file, with which an error begins.

    Raises:
        CheckpointError: names or shapes differ (counted, the first one named), or a value is not a number.
    """
    own = model.state_dict()
    if different := key_differences({k: v.shape for k, v in own.items()}, weights):
        raise CheckpointError(f"{where}: the weights do not fit the model its config describes: {', '.join(different)}")
    whole = [k for k, v in weights.items() if own[k].is_floating_point() and not v.is_floating_point()]
    if whole:
        raise CheckpointError(f"{where}: {counted(len(whole), 'weight')} of whole numbers where fractions are needed "
                              f"(first: {whole[0]}); the file is quantised or damaged: take another")  # fmt: skip
    require_finite(weights, where)
    model.load_state_dict({k: v.to(own[k].dtype) for k, v in weights.items()}, strict=True)


def require_finite(weights: Mapping[str, Tensor], where: str) -> None:
    """Raises:
        CheckpointError: a weight is NaN or infinite: the file is of a run that diverged, or damaged."""
    broken = [k for k, v in weights.items() if v.is_floating_point() and not torch.isfinite(v).all()]
    if broken:
        raise CheckpointError(f"{where}: {counted(len(broken), 'weight')} not of finite numbers (first: "
                              f"{broken[0]}); the file is of a run that diverged, or damaged: take "
                              "another")  # fmt: skip
