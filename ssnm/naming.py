"""Names: natural order of files, and category names that mean the same thing."""

import re

# VOC and COCO name some categories differently; the left name is turned into the right one (COCO's).
SYNONYMS = {
    "aeroplane": "airplane",
    "plane": "airplane",
    "diningtable": "dining table",
    "motorbike": "motorcycle",
    "pottedplant": "potted plant",
    "sofa": "couch",
    "tvmonitor": "tv",
    "tv monitor": "tv",
}


def canonical_category(name: str) -> str:
    """The one name of a category over all data sets: ``aeroplane`` and ``airplane`` are one.

    Case, underscores and surrounding blanks do not matter; names that are not synonyms come back
    in lower case with blanks.
    """
    plain = " ".join(name.strip().lower().replace("_", " ").split())
    return SYNONYMS.get(plain, plain)


def natural_key(name: str) -> tuple:
    """Sort key that puts ``img_2`` before ``img_10``.

    >>> sorted(["img_10", "img_2"], key=natural_key)
    ['img_2', 'img_10']
    """
    parts = re.split(r"(\d+)", str(name))
    return tuple((0, int(p), p) if p.isdecimal() else (1, 0, p) for p in parts if p), str(name)
