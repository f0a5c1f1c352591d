"""Listing image folders: natural order, hidden files left out, files of one stem found. No torch."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path

from ..errors import DataError, MissingFileError
from ..naming import natural_key
from .images import IMAGE_SUFFIXES

_SHOWN = 5


def list_images(folder: str | Path) -> list[Path]:
    """The image files directly in `folder` (any suffix of ``IMAGE_SUFFIXES``), in natural order."""
    files = (p for p in Path(folder).iterdir() if p.suffix.lower() in IMAGE_SUFFIXES and not p.name.startswith("."))
    return sorted((p for p in files if p.is_file()), key=lambda p: natural_key(p.name))


def list_folders(folder: str | Path) -> list[Path]:
    """The sub-folders of `folder` that are not hidden, in natural order."""
    folders = (p for p in Path(folder).iterdir() if p.is_dir() and not p.name.startswith("."))
    return sorted(folders, key=lambda p: natural_key(p.name))


def group_by_stem(files: Iterable[Path]) -> dict[str, list[Path]]:
    """File name without suffix -> the files that carry it; more than one is ambiguous."""
    groups: dict[str, list[Path]] = defaultdict(list)
    for file in files:
        groups[file.stem].append(file)
    return dict(groups)


def images_by_stem(folder: str | Path) -> dict[str, Path]:
    """Stem -> the one image file of that stem in `folder`.

    Raises:
        MissingFileError: no such folder.
        DataError: two image files share a stem.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise MissingFileError(f"{folder}: no such folder; a folder of images was expected")
    groups = group_by_stem(list_images(folder))
    for files in groups.values():
        if len(files) > 1:
            raise DataError(same_stem(files))
    return {stem: files[0] for stem, files in groups.items()}


def same_stem(files: Sequence[Path]) -> str:
    """The line that says that `files` cannot be told apart once their suffix is gone."""
    names = ", ".join(f.name for f in files)
    return (
        f"{files[0].parent}: {names} share one stem, by which maps and masks are paired; remove or rename all but one"
    )


def shorten(names: Sequence[str], shown: int = _SHOWN) -> str:
    """The first few names and how many more there are: ``a, b, c and 7 more``."""
    rest = len(names) - shown
    return ", ".join(names[:shown]) + (f" and {rest} more" if rest > 0 else "")
