"""Resizing with the mode and the antialiasing named at every call.

`resize_bilinear` with `antialias=True` is Pillow's BILINEAR; `resize_area` averages whole cells.
"""

from torch import Tensor
from torch.nn import functional as F


def resize_bilinear(maps: Tensor, size: tuple[int, int], antialias: bool = False) -> Tensor:
    """Bilinear resizing of (B, C, h, w) to (B, C, *size), align_corners off; the same tensor if nothing changes."""
    if tuple(maps.shape[-2:]) == tuple(size):
        return maps
    return F.interpolate(maps, size=size, mode="bilinear", align_corners=False, antialias=antialias)


def resize_area(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """Down-sampling of (B, C, h, w) by averaging the cells that fall into each new one, any size to any size."""
    height, width = maps.shape[-2:]
    if (height, width) == tuple(size):
        return maps
    if height % size[0] == 0 and width % size[1] == 0:  # adaptive pooling has no deterministic gradient on CUDA
        return F.avg_pool2d(maps, (int(height // size[0]), int(width // size[1])))  # int: tracing wants numbers here
    return F.adaptive_avg_pool2d(maps, size)
