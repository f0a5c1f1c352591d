"""Second-order pooling: the channel-by-channel moments of a set of positions (Figure 4 of the paper)."""

import torch
from torch import Tensor

from ..errors import ConfigError


def second_order_matrix(features: Tensor, centred: bool = False, weights: Tensor | None = None) -> Tensor:
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
    if weights is None:
        weights = features.new_ones(1, positions)
    shares = (weights / weights.sum(-1, keepdim=True))[:, None].to(features.dtype)  # (B, 1, P)
    if centred:
        if positions < 2:
            raise ConfigError(
                "centred second-order pooling needs at least 2 positions, got 1 (a group of one image); "
                "set model.semantic.centred to false"
            )
        features = features - (features * shares).sum(dim=-1, keepdim=True)
    return features * shares @ features.transpose(-1, -2)


def signed_sqrt(matrix: Tensor, eps: float = 1e-6) -> Tensor:
    """sign(x) * sqrt(|x|) per entry, with a finite gradient at 0: brings second moments back to the
    scale of the features (Lin et al., "Bilinear CNN models", ICCV 2015, section 3.1).

    Any shape; `eps` is added below the root and its root subtracted, so 0 stays 0.
    """
    return torch.sign(matrix) * (torch.sqrt(matrix.abs() + eps) - eps**0.5)
