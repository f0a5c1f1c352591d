"""Scale-and-shift modulation of feature maps (Eq. 5 of the paper)."""

from torch import Tensor

from .grouping import fold_groups, unfold_groups
from .resize import resize_bilinear


def scale_and_shift(maps: Tensor, scale: Tensor | None = None, shift: Tensor | None = None) -> Tensor:
    """Y_c^n = gamma_c X_c^n + S^n (Eq. 5).

    Args:
        maps: (B, N, D, H, W), the features X of one level.
        scale: (B, D), gamma, the same for every image of a group; None leaves the scale at 1.
        shift: (B, N, h, w), the spatial mask S, resized to (H, W) and added to every channel; None adds nothing.

    Returns:
        (B, N, D, H, W).
    """
    if scale is not None:
        maps = maps * scale[:, None, :, None, None]  # (B, D) -> (B, 1, D, 1, 1)
    if shift is not None:
        resized = resize_bilinear(fold_groups(shift).unsqueeze(1), maps.shape[-2:])  # (B*N, 1, H, W)
        maps = maps + unfold_groups(resized, maps.shape[1]).to(maps.dtype)
    return maps
