"""Reading any image or mask, listing folders, writing atomically: numpy and Pillow only."""

from .images import load_rgb
from .masks import read_binary, read_ids

__all__ = ["load_rgb", "read_binary", "read_ids"]
