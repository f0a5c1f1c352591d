"""The release's spatial solver: 200 Adam steps on a penalised Rayleigh quotient (docs/release.md).

Kept for checkpoints of the authors' release, whose weights were trained behind it. It often stops far from
the eigenvector, so the exact solver of `ssnm.coseg.spectral` does not stand in for it in a parity test.

B groups, M descriptors in a group, D channels.
"""

from __future__ import annotations

from math import sqrt

import torch
from torch import Tensor

from ...nn.opaque import on_float64_device, opaque_operator

STEPS = 200
LEARNING_RATE = 0.01
BETA1, BETA2, EPSILON = 0.9, 0.999, 1e-8
BARRIER_WEIGHT = 50.0


@torch.no_grad()
def adam200(descriptors: Tensor) -> Tensor:
    """Minimise 50 b(||s||) - s^T G s, G = X^T X - 1 1^T, by 200 Adam steps from s = 1/sqrt(M).

    b(r) = -log(2 - r) for r >= 1 and -log(r) for r < 1, with the gradient in closed form. Past r = 2 the
    barrier has no value but its derivative 1/(2 - r) goes on, as in the original. Groups do not influence
    each other. float64 inside; no host synchronisation; linear in M once M > 2 D.

    Args:
        descriptors: (B, M, D), rows of unit length (or zero).

    Returns:
        (B, M) in the descriptors' dtype; *not* of unit length: the norm is about 1 + sqrt(1 - 25/lambda).
    """
    return _descend_as_operator(descriptors)


def _descend(descriptors: Tensor) -> Tensor:
    batch, count, channels = descriptors.shape
    x = on_float64_device(descriptors).double()
    gram = x @ x.mT - 1 if count <= 2 * channels else None  # (B, M, M)
    s = x.new_full((batch, count), 1 / sqrt(count))
    first, second = torch.zeros_like(s), torch.zeros_like(s)  # Adam's moments
    for step in range(1, STEPS + 1):
        norm = torch.linalg.vector_norm(s, dim=-1, keepdim=True)
        if step == 1:
            norm = torch.full_like(norm, _norm_of_start(count))
        slope = torch.where(norm >= 1, 1 / (2 - norm), -1 / norm)
        gradient = BARRIER_WEIGHT * slope / norm * s - 2 * _times_gram(x, gram, s)
        first.lerp_(gradient, 1 - BETA1)
        second.mul_(BETA2).addcmul_(gradient, gradient, value=1 - BETA2)
        deviation = second.sqrt() / sqrt(1 - BETA2**step) + EPSILON
        s = s - LEARNING_RATE / (1 - BETA1**step) * first / deviation
    return s.to(descriptors.dtype).to(descriptors.device)


def _times_gram(x: Tensor, gram: Tensor | None, s: Tensor) -> Tensor:
    """G s as (B, M), through the M x M matrix or through its factors."""
    if gram is not None:
        return (gram @ s[..., None])[..., 0]
    return (x @ (x.mT @ s[..., None]))[..., 0] - s.sum(-1, keepdim=True)


def _norm_of_start(count: int) -> float:
    """The norm of the start as the original computes it: float32, on the CPU.

    The start lies on the barrier's kink r = 1, where the gradient jumps: rounding alone decides the side
    (0.9999997 for M = 245, exactly 1 for M = 49) and with it the whole path. This keeps every device on
    the original's side.
    """
    return float(torch.full((count,), 1 / sqrt(count), dtype=torch.float32, device="cpu").norm())


# One node of a compiled graph: unrolled, 200 steps would take torch.compile minutes.
_descend_as_operator = opaque_operator(
    "adam200", "(Tensor descriptors) -> Tensor", _descend, lambda x: x.new_empty(x.shape[:2])
)
