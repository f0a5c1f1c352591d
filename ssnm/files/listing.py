"""Listing image folders: natural order, hidden files left out, files of one stem found. No torch.

Names that look alike are alike: "café" composed (Linux) and decomposed (macOS) is one stem.
"""

from __future__ import annotations

import unicodedata
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Sequence
from functools import lru_cache
from pathlib import Path

from PIL import Image

from ..errors import ConfigError, DataError, MissingFileError
from ..naming import canonical_category, counted, natural_key, printable

_SHOWN = 5
_SHOWN_PROBLEMS = 20
_HEIF = (".heic", ".heif", ".hif")
_HEIF_EXTRA = 'pip install -e ".[heic]" reads them'
# Formats that Pillow lists but opens only with a program beside it, or not at all.
_STUBS = ("BUFR", "EPS", "GRIB", "HDF5", "IPTC", "MPEG", "WMF")


@lru_cache(maxsize=1)
def image_suffixes() -> frozenset[str]:
    """The suffixes, in lower case, of the image formats that Pillow reads here; HEIC where pillow-heif is."""
    try:
        from pillow_heif import register_heif_opener
    except ImportError:
        pass
    else:
        register_heif_opener()
    Image.init()
    formats = Image.registered_extensions()
    return frozenset(suffix for suffix, name in formats.items() if name in Image.OPEN and name not in _STUBS)


def is_image(path: Path) -> bool:
    """Whether the name is that of an image file that is not hidden."""
    return path.suffix.lower() in image_suffixes() and not path.name.startswith(".")


def list_images(folder: str | Path) -> list[Path]:
    """The image files directly in `folder`, in natural order: every format that Pillow reads. A link that leads nowhere
    is among them: reading it names it."""
    images = (p for p in Path(folder).iterdir() if is_image(p) and (p.is_file() or (p.is_symlink() and not p.is_dir())))
    return sorted(images, key=lambda p: natural_key(p.name))


def list_folders(folder: str | Path) -> list[Path]:
    """The sub-folders of `folder` that are not hidden, in natural order."""
    folders = (p for p in Path(folder).iterdir() if p.is_dir() and not p.name.startswith("."))
    return sorted(folders, key=lambda p: natural_key(p.name))


def left_out(folders: Iterable[str | Path]) -> str:
    """What in `folders` is not hidden and no image, in one line: "5 files left out: 4 .heic (...), 1 .txt"; or "".

    Folders in them are named too, unless they are among `folders`.
    """
    folders = [Path(folder) for folder in folders]
    inside = [p for folder in folders for p in folder.iterdir() if not p.name.startswith(".")]
    others = [p for p in inside if not is_image(p) and p.is_file()]
    unread = [printable(p.name) for p in inside if p.is_dir() and p not in folders]
    lines = []
    if others:
        kinds = Counter(p.suffix.lower() or printable(p.name) for p in others).most_common()
        shown = [f"{n} {kind}" + (f" ({_HEIF_EXTRA})" if kind in _HEIF else "") for kind, n in kinds]
        lines.append(f"{counted(len(others), 'file')} left out: {shorten(shown)}")
    if unread:
        lines.append(f"{counted(len(unread), 'folder')} not looked into: {shorten(unread)}")
    return "; ".join(lines)


def plain_stem(path: Path) -> str:
    """The file name without suffix, as the key by which files are paired: composed (NFC)."""
    return unicodedata.normalize("NFC", path.stem)


def same_name(names: Sequence[str]) -> str | None:
    """The first name that occurs twice, composed or not; None: all differ."""
    counts = Counter(unicodedata.normalize("NFC", name) for name in names)
    return next((name for name, count in counts.items() if count > 1), None)


def group_by_stem(files: Iterable[Path]) -> dict[str, list[Path]]:
    """File name without suffix (:func:`plain_stem`) -> the files that carry it; more than one is ambiguous."""
    groups: dict[str, list[Path]] = defaultdict(list)
    for file in files:
        groups[plain_stem(file)].append(file)
    return dict(groups)


def images_by_stem(folder: str | Path, suffixes: Collection[str] | None = None) -> dict[str, Path]:
    """Stem -> the one image file of that stem in `folder`, in natural order.

    suffixes: only files of these, in lower case.

    Raises:
        MissingFileError: no such folder.
        DataError: two image files share a stem.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise MissingFileError(f"{folder}: no such folder; a folder of images was expected")
    images = list_images(folder)
    groups = group_by_stem(p for p in images if suffixes is None or p.suffix.lower() in suffixes)
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


def gathered(problems: Iterable[str]) -> list[str]:
    """Lines "FILE: what", those that say the same of several files in one."""
    files: dict[str, list[str]] = {}
    for line in problems:
        file, _, what = line.partition(": ")
        files.setdefault(what, []).append(file)
    return [f"{f[0]}: {what}" + (f" ({len(f)} files, also {shorten(f[1:], 2)})" if len(f) > 1 else "")
            for what, f in files.items()]  # fmt: skip


def all_problems(problems: Sequence[str], total: int, what: str) -> str:
    """Every problem in one line: "3 of 40 masks cannot be used: a.png: ...; b.png: ... (2 files, also c.png)".

    problems: lines "FILE: what", at least one, which comes back as it is; total, what: of how many of what.
    """
    if len(problems) == 1:
        return problems[0]
    lines = gathered(problems)
    return f"{len(problems)} of {total} {what} cannot be used: " + shorten(lines, _SHOWN_PROBLEMS, "; ")


def shorten(names: Sequence[str], shown: int = _SHOWN, between: str = ", ") -> str:
    """The first few names and how many more there are: ``a, b, c and 7 more``."""
    rest = len(names) - shown
    return between.join(names[:shown]) + (f" and {rest} more" if rest > 0 else "")
