"""Names: natural order of files, category names that mean the same thing, and how names and counts are said."""

import hashlib
import re
import unicodedata

# VOC, COCO and the Internet set name some categories differently; the left name is turned into the right one (COCO's).
SYNONYMS = {
    "aeroplane": "airplane",
    "airplane100": "airplane",
    "car100": "car",
    "diningtable": "dining table",
    "horse100": "horse",
    "motorbike": "motorcycle",
    "plane": "airplane",
    "pottedplant": "potted plant",
    "sofa": "couch",
    "tv monitor": "tv",
    "tvmonitor": "tv",
}


def canonical_category(name: str) -> str:
    """The one name of a category over all data sets: ``aeroplane``, ``airplane`` and ``Airplane100`` are one.

    Case, underscores, surrounding blanks and the form of accents do not matter; names that are not synonyms come back
    in lower case with blanks.
    """
    plain = " ".join(unicodedata.normalize("NFC", name).strip().lower().replace("_", " ").split())
    return SYNONYMS.get(plain, plain)


def falls_into_share(name: str, share: float) -> bool:
    """Whether a hash of `name` falls into a `share` in [0, 1): the same answer whatever else there is, so that what is
    held out of one run is held out of all."""
    digest = hashlib.sha256(name.encode()).digest()
    return int.from_bytes(digest[:8], "big") < share * 2**64


def natural_key(name: str) -> tuple:
    """Sort key that puts ``img_2`` before ``img_10``.

    >>> sorted(["img_10", "img_2"], key=natural_key)
    ['img_2', 'img_10']
    """
    parts = re.split(r"(\d+)", str(name))
    return tuple((0, int(p), p) if p.isdecimal() else (1, 0, p) for p in parts if p), str(name)


def printable(text: str) -> str:
    """The text on one line: line breaks and other control characters, which also steer terminals, as escapes.

    >>> printable("a\\nb")
    'a\\\\nb'
    """
    return "".join(c if unicodedata.category(c) != "Cc" else c.encode("unicode_escape").decode("ascii") for c in text)


def counted(number: int, one: str, many: str = "") -> str:
    """A number with its noun, `many` (that of one with an s) unless it is 1.

    >>> counted(1, "class", "classes"), counted(2, "image")
    ('1 class', '2 images')
    """
    return f"{number} {one if number == 1 else many or one + 's'}"
