"""Guidance: what the group adds to what the network says of every image alone, taken further at test time.

Classifier-free guidance (Ho and Salimans, 2022) with the group as the condition. No torch: both runtimes use it.
"""

from __future__ import annotations

from numbers import Real
from typing import Any

MAX_GUIDANCE = 10.0  # far beyond what helps: 2 is too much for the models so far (docs/experiments.md)


def as_guidance(value: Any) -> float:
    """Raises:
    ValueError: no number in [0, MAX_GUIDANCE]."""
    number = value if isinstance(value, Real) and not isinstance(value, bool) else float("nan")
    if not 0 <= number <= MAX_GUIDANCE:
        raise ValueError(f"a guidance of 0 to {MAX_GUIDANCE:g} was expected, got {value!r}")
    return float(number)


def segments_alone(model: Any) -> bool:
    """Whether a network, or its half in numpy, can segment an image as a group of one by a gamma of its own."""
    return model.semantic is not None and not model.semantic.centred


def guided(logits: Any, alone: Any, guidance: float) -> Any:
    """Logits of images as members of their group, and of each alone -> logits, tensors or arrays."""
    return logits + guidance * (logits - alone)
