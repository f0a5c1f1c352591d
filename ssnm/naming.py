"""Names: natural order of files, and category names that mean the same thing."""

import re
import unicodedata
from collections.abc import Collection, Sequence

from .errors import ConfigError

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


def select_names(known: Collection[str], wanted: Sequence[str], where: str) -> list[str]:
    """The names of `known`, in its order, that `wanted` means: by the name itself, else by its class.

    Raises:
        ConfigError: none of `known` is meant by one of `wanted`, or nothing is wanted.
    """
    chosen = set()
    for name in wanted:
        alike = [k for k in known if canonical_category(k) == canonical_category(name)]
        meant = [name] if name in known else alike
        if not meant:
            raise ConfigError(f"{where}: class {name!r} has no folder; it holds {', '.join(known)}")
        chosen.update(meant)
    if not chosen:
        raise ConfigError(f"{where}: no class was named; it holds {', '.join(known)}")
    return [name for name in known if name in chosen]


def natural_key(name: str) -> tuple:
    """Sort key that puts ``img_2`` before ``img_10``.

    >>> sorted(["img_10", "img_2"], key=natural_key)
    ['img_2', 'img_10']
    """
    parts = re.split(r"(\d+)", str(name))
    return tuple((0, int(p), p) if p.isdecimal() else (1, 0, p) for p in parts if p), str(name)
