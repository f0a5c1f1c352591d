"""Scale-and-shift modulation of feature maps (SSNM, Eq. 5; OSMN, Eq. 1)."""

from torch import Tensor

from .grouping import fold_groups, unfold_groups
from .resize import resize_bilinear


def scale_and_shift(maps: Tensor, scale: Tensor | None = None, shift: Tensor | None = None) -> Tensor:
    """Y_c = gamma_c X_c + beta_c: a scale per channel and a shift per position, of one channel or of each.

    SSNM scales the images of a group alike and shifts all channels alike; OSMN has one image in a group (N = 1),
    a shift per channel, and may show one frame to several objects (B = 1 for `maps`, more for the others).

    Args:
        maps: (B, N, D, H, W), the features X of one level; a size of 1 is repeated for larger B of the others.
        scale: (B, D), gamma, the same for every image of a group; None leaves the scale at 1.
        shift: (B, N, h, w), added to every channel, or (B, N, D, h, w); resized to (H, W); None adds nothing.

    Returns:
        (B, N, D, H, W).
    """
    if scale is not None:
        maps = maps * scale[:, None, :, None, None].to(maps.dtype)  # (B, D) -> (B, 1, D, 1, 1)
    if shift is not None:
        per_channel = shift if shift.ndim == 5 else shift.unsqueeze(2)  # (B, N, D or 1, h, w)
        resized = resize_bilinear(fold_groups(per_channel), maps.shape[-2:])  # (B*N, D or 1, H, W)
        maps = maps + unfold_groups(resized, shift.shape[1]).to(maps.dtype)
    return maps
