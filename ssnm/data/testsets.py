"""Reading test sets in the processed layout; used by testing, `ssnm datasets check` and ProcessedSource. No torch.

    ROOT/image/<class>/<stem>.<suffix>          every image suffix that Pillow reads, mixed as they come
    ROOT/groundtruth/<class>/<stem>.<suffix>    optional as a whole; where it exists every image needs its mask

`folder` (a user's own images) also takes ROOT/<group>/* and ROOT/* as one group, both without ground truth.
"""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass, field
from pathlib import Path

from ..errors import DataError, MissingFileError
from ..facts import load_facts
from ..files.listing import group_by_stem, left_out, list_folders, list_images, same_stem, shorten
from ..naming import canonical_category, counted
from .records import TestImage
from .voc import read_voc_coseg_list

FLAT_CATEGORY = "all"  # the category of images that lie in no class folder
TEST_SETS = ("msrc", "internet", "icoseg", "pascal_voc", "folder")


@dataclass(frozen=True)
class TestSet:
    """A test set as read: `images` by class and natural order; `warnings`, what its reader should know, a line each."""

    __test__ = False  # not a pytest class

    name: str
    images: tuple[TestImage, ...]
    warnings: tuple[str, ...] = ()

    @property
    def categories(self) -> tuple[str, ...]:
        """The class folders, in order."""
        return tuple(dict.fromkeys(image.category for image in self.images))

    @property
    def has_truth(self) -> bool:
        """Whether there is ground truth (for all images or for none)."""
        return any(image.truth is not None for image in self.images)


@dataclass
class Scan:
    """What lies in a folder, nothing raised: `problems` are errors, `warnings` are not, `notes` tell of files that were
    passed over, `counts` images per class."""

    images: list[TestImage] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def counts(self) -> dict[str, int]:
        counts: dict[str, int] = {}
        for image in self.images:
            counts[image.category] = counts.get(image.category, 0) + 1
        return counts


def read_test_set(name: str, root: str | Path) -> TestSet:
    """Read the test set `name` (one of ``TEST_SETS``) in `root`, the folder that holds ``image/``.

    Files are listed, not opened: undecodable files and differing sizes are found by
    :func:`ssnm.data.check.check_test_set` and when scoring.

    Raises:
        MissingFileError: no such folder, or no ``image/`` in it.
        DataError: unknown name, no images, a missing or extra mask, two files of one stem.
    """
    scan = scan_test_set(name, root)
    if scan.problems:
        more = len(scan.problems) - 1
        raise DataError(scan.problems[0] + (f" (and {more} more problems like this)" if more else ""))
    return TestSet(name, tuple(scan.images), (*scan.warnings, *scan.notes))


def scan_test_set(name: str, root: str | Path) -> Scan:
    """List and pair the files of a test set, collecting what is wrong instead of raising at the first.

    Raises:
        MissingFileError, DataError: the folder is not laid out as a test set at all.
    """
    if name not in TEST_SETS:
        raise DataError(f"test set {name!r} is not known; choose one of {', '.join(TEST_SETS)}")
    root = Path(root)
    base, truth_root = _find_bases(name, root)
    scan = Scan()
    folders = _class_folders(base, scan)
    truths = {} if truth_root is None else {_plain(t.name): t for t in list_folders(truth_root)}
    for category, folder in folders.items():
        truth = truths.get(category, truth_root / category) if truth_root and folder != base else truth_root
        _pair_folder(category, folder, truth, scan)
    if truth_root is not None and base not in folders.values():
        extra = [t for t in truths.values() if _plain(t.name) not in folders and list_images(t)]
        scan.problems += [f"{e}: ground truth of a class that has no folder in {base}" for e in extra]
    seen = [base, *list_folders(base), *([truth_root] if truth_root else []), *truths.values()]
    scan.notes += [f"{root}: {note}" for note in [left_out(dict.fromkeys(seen))] if note]
    scan.warnings += count_warnings(name, scan)
    return scan


def expected_classes(name: str) -> dict[str, int | None]:
    """Class -> number of images the set should hold (None: not known); empty for `folder`."""
    return dict(_facts().get(name, {}).get("classes", {}))


def expected_with_object(name: str) -> dict[str, int]:
    """Class -> number of images said to show the object (general knowledge: report, do not demand)."""
    return dict(_facts().get(name, {}).get("with_object", {}))


def count_warnings(name: str, scan: Scan) -> list[str]:
    """One line for each class that differs from what the set should hold; classes are compared by canonical name."""
    expected = expected_classes(name)
    if not expected:
        return []
    found = {canonical_category(c): n for c, n in scan.counts.items()}
    lines = []
    for category, wanted in expected.items():
        have = found.pop(canonical_category(category), 0)
        if have == 0:
            lines.append(f"{name}: class {category} is missing" + (f" ({wanted} images wanted)" if wanted else ""))
        elif wanted is not None and have != wanted:
            lines.append(f"{name}: class {category} has {counted(have, 'image')}, {wanted} wanted"
                         + _which(name, category, scan))
    lines += [f"{name}: class {c} ({counted(n, 'image')}) is not one of the set's classes" for c, n in found.items()]
    return lines


def _which(name: str, category: str, scan: Scan) -> str:
    """For pascal_voc, whose list is known: the stems of a class that are missing (set's or VOC's names)."""
    if name != "pascal_voc":
        return ""
    have = {i.name for i in scan.images if canonical_category(i.category) == canonical_category(category)}
    entries = [e for e in read_voc_coseg_list() if e.category == category]
    by_file = [e.file for e in entries if Path(e.file).stem not in have]
    by_voc = [e.voc_name for e in entries if e.voc_name not in have]
    missing = min(by_file, by_voc, key=len)
    return f"; missing: {shorten(missing)}" if 0 < len(missing) < len(entries) else ""


def _find_bases(name: str, root: Path) -> tuple[Path, Path | None]:
    """The folder of the class folders and the folder of the ground truth, if there is one."""
    if not root.is_dir():
        raise MissingFileError(f"{root}: no such folder; give the folder that holds image/ (and groundtruth/)")
    truth = root / "groundtruth"
    if (root / "image").is_dir():
        return root / "image", truth if truth.is_dir() else None
    if truth.is_dir():
        raise MissingFileError(f"{root}: has groundtruth/ but no image/; put the images into image/<class>/")
    if name == "folder":
        return root, None
    inside = " (give its parent folder)" if root.name == "image" else ""
    raise MissingFileError(
        f"{root}: has no folder image/{inside}; wanted image/<class>/* and groundtruth/<class>/*, "
        f"as `ssnm datasets prepare {name}` builds them"
    )


def _class_folders(base: Path, scan: Scan) -> dict[str, Path]:
    """Category -> its folder; images directly in `base` are one category of their own."""
    loose = list_images(base)
    folders = {}
    for folder in list_folders(base):
        if list_images(folder):
            folders[_plain(folder.name)] = folder
        else:
            scan.warnings.append(f"{folder}: a class folder without images, left out")
    if loose and folders:
        raise DataError(
            f"{base}: holds images ({loose[0].name}, ...) beside folders of images ({', '.join(list(folders)[:3])}); "
            "put every image into a group folder or none"
        )
    if not loose and not folders:
        raise DataError(f"{base}: no images found; wanted <group>/*.jpg or *.jpg, or any other format that Pillow reads"
                        + (f" ({left})" if (left := left_out([base])) else ""))
    return {FLAT_CATEGORY: base} if loose else folders


def _pair_folder(category: str, folder: Path, truth_folder: Path | None, scan: Scan) -> None:
    """Add the images of one class with their masks to `scan`, and what is wrong with them to its problems."""
    images = group_by_stem(list_images(folder))
    if truth_folder is not None and not truth_folder.is_dir():
        scan.problems.append(f"{truth_folder}: no such folder; ground truth for the images of {folder} was expected")
        truth_folder = None
    truths = group_by_stem(list_images(truth_folder)) if truth_folder else {}
    scan.problems += [same_stem(files) for files in (*images.values(), *truths.values()) if len(files) > 1]
    for stem, files in images.items():
        truth = truths.get(stem, [None])[0]
        if truth_folder is not None and truth is None:
            scan.problems.append(f"{files[0]}: no ground truth; wanted {truth_folder / stem}.png (or another suffix)")
        scan.images.append(TestImage(category, stem, files[0], truth))
    for stem, files in truths.items():
        if stem not in images:
            scan.problems.append(f"{files[0]}: ground truth without its image {folder / stem}.jpg (or another suffix)")


def _plain(name: str) -> str:
    """A folder's name, its accents composed: the two forms are one name."""
    return unicodedata.normalize("NFC", name)


def _facts() -> dict:
    return load_facts("test_sets")
