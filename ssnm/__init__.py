"""ssnm: object co-segmentation. Given images that share an object nobody names, find its mask in every one.

    import ssnm
    result = ssnm.from_pretrained().segment(["a.jpg", "b.jpg", "c.jpg"])
    result.masks, result.categories, result.save("out")
"""

import importlib

__version__ = "0.2.0"
__all__ = ["CoSegmenter", "Segmentation", "VideoSegmenter", "evaluate", "from_pretrained"]
_HOMES = {
    "CoSegmenter": ".coseg.segmenter",
    "Segmentation": ".coseg.segmentation",
    "VideoSegmenter": ".video.segmenter",
    "evaluate": ".pretrained",
    "from_pretrained": ".pretrained",
}


def __getattr__(name: str):
    """torch is imported when something needs it, not by `import ssnm`."""
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name], __name__), name)
    raise AttributeError(f"module 'ssnm' has no attribute '{name}'")
