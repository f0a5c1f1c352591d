"""Second-order pooling: the channel-by-channel moments of a set of positions (Figure 4 of the paper).

One definition for torch and for numpy: only what arrays of both can do is used.
"""

from __future__ import annotations

from typing import Any

from ..errors import ConfigError

Array = Any  # torch.Tensor or numpy.ndarray; what comes back is of the same kind


def second_order_matrix(features: Array, centred: bool = False, weights: Array | None = None) -> Array:
    """Z Z^T / P, the second-order matrix of P positions; with weights Z diag(w) Z^T / sum(w).

    Args:
        features: (B, c, P), c channels at P positions.
        centred: subtract the mean over the positions first, as a covariance does. The paper says
            covariance; uncentred is the default because it exists for P = 1 (a group of one image).
        weights: (B, P), each position's share, not negative; None: all the same.

    Returns:
        (B, c, c), symmetric and positive semi-definite; it does not depend on the order of positions,
        nor does its scale depend on their number.

    Raises:
        ConfigError: `centred` with a single position, whose covariance is zero whatever the features.
    """
    positions = features.shape[-1]
    shares = 1 / positions if weights is None else (weights / weights.sum(-1)[:, None])[:, None]  # (B, 1, P)
    if centred:
        if positions < 2:
            raise ConfigError(
                "centred second-order pooling needs at least 2 positions, got 1 (a group of one image); "
                "set model.semantic.centred to false"
            )
        features = features - (features * shares).sum(-1)[..., None]
    return features * shares @ features.swapaxes(-1, -2)


def signed_sqrt(matrix: Array, eps: float = 1e-6) -> Array:
    """sign(x) * sqrt(|x|) per entry, with a finite gradient at 0: brings second moments back to the
    scale of the features (Lin et al., "Bilinear CNN models", ICCV 2015, section 3.1).

    Any shape; `eps` is added below the root and its root subtracted, so 0 stays 0.
    """
    return (2 * (matrix >= 0) - 1) * ((abs(matrix) + eps) ** 0.5 - eps**0.5)
