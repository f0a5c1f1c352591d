"""ssnm: object co-segmentation. Given images that share an object nobody names, find its mask in every one.

    import ssnm
    result = ssnm.from_pretrained().segment(["a.jpg", "b.jpg", "c.jpg"])
    result.masks, result.categories, result.save("out")
"""

__version__ = "0.1.0"
__all__ = ["CoSegmenter", "Segmentation", "from_pretrained"]


def __getattr__(name: str):
    """torch is imported when something needs it, not by `import ssnm`."""
    if name in ("CoSegmenter", "from_pretrained"):
        from . import pretrained

        return getattr(pretrained, name)
    if name == "Segmentation":
        from .coseg.segmentation import Segmentation

        return Segmentation
    raise AttributeError(f"module 'ssnm' has no attribute '{name}'")
