"""Checking a test set on disk, file by file: ``ssnm datasets check``. No torch.

Everything wrong is collected, nothing raised at the first: a user mends a set once, not file by file.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..errors import DataError, UserError
from ..files.images import load_rgb
from ..files.listing import all_problems, gathered, shorten
from ..files.masks import read_binary
from ..files.parallel import in_threads
from ..naming import canonical_category, counted
from .records import TestImage
from .testsets import expected_classes, expected_with_object, scan_test_set


@dataclass(frozen=True)
class ClassCount:
    """One class: images found, images wanted (None: not known), masks found, masks that show an object."""

    category: str
    images: int
    wanted: int | None
    masks: int
    with_object: int


@dataclass(frozen=True)
class CheckReport:
    """The result of a check: `problems` make the set unfit for a comparable number, `notes` do not; `doubts` are notes
    after which a set is not called well."""

    name: str
    root: Path
    classes: tuple[ClassCount, ...]
    problems: tuple[str, ...]
    notes: tuple[str, ...]
    doubts: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        return not self.problems

    def table(self) -> str:
        """The counts per class as aligned text."""
        rows = [("class", "images", "wanted", "masks", "with object")]
        for c in self.classes:
            rows.append((c.category, c.images, "?" if c.wanted is None else c.wanted, c.masks, c.with_object))
        totals = [sum(getattr(c, key) for c in self.classes) for key in ("images", "masks", "with_object")]
        rows.append(("all", totals[0], "", totals[1], totals[2]))
        width = max(len(r[0]) for r in rows)
        return "\n".join(f"{r[0]:<{width}}  {r[1]:>6}  {r[2]:>6}  {r[3]:>6}  {r[4]:>11}" for r in rows)


def check_test_set(
    name: str, root: str | Path, workers: int | None = None, progress: Callable[[int, int], None] | None = None
) -> CheckReport:
    """Decode every image and mask of test set `name` in `root` and compare counts, names and sizes.

    What differs from the published set's counts is a problem, except for iCoseg, whose sizes are not known, and
    for `folder`, which is the user's own. An empty mask is one too, except in Internet, which holds such images.

    Args:
        name: one of ``ssnm.data.testsets.TEST_SETS``.
        root: the folder that holds ``image/``.
        workers: threads; None: one per usable core.
        progress: called with (images done, images in all).

    Raises:
        MissingFileError, DataError: `root` is not laid out as a test set at all.
    """
    root = Path(root)
    scan = scan_test_set(name, root)
    problems, found = list(scan.problems), []
    for checked in in_threads(_check_image, scan.images, workers):
        found.append(checked)
        if progress:
            progress(len(found), len(scan.images))
    problems += gathered([line for checked in found for line in checked.problems])
    shares = {(i.category, i.name): checked.share for i, checked in zip(scan.images, found)}
    shows_object = {key: None if share is None else share > 0 for key, share in shares.items()}
    demanded = any(n is not None for n in expected_classes(name).values())
    notes = [] if demanded else list(scan.warnings)
    doubts = [*scan.notes, *_share_notes(shares), *_ambiguous_note(scan.images, found)]
    problems += scan.warnings if demanded else []
    if not any(i.truth for i in scan.images):
        (notes if name == "folder" else problems).append(f"{root}: no groundtruth/; maps can be made but not scored")
    classes = _class_counts(name, scan.images, shows_object)
    notes += _object_notes(name, classes)
    if demanded and not expected_with_object(name):  # of these sets every image shows its class
        empty = [f"{category}/{stem}" for (category, stem), shown in shows_object.items() if shown is False]
        problems += [f"{name}: the mask of {e} shows no object" for e in empty]
    return CheckReport(name, root, classes, tuple(problems), tuple(notes), tuple(doubts))


def require_usable(images: Sequence[TestImage], workers: int | None = None) -> list[str]:
    """Read every image and ground truth, before hours go into maps that a file left unread would spoil; returns notes.

    Raises:
        DataError: naming all that cannot be read, and every truth whose object is not known.
    """
    found = list(in_threads(_check_image, images, workers))
    problems = [line for checked in found for line in checked.unusable]
    if problems:
        raise DataError(all_problems(problems, sum(1 + (i.truth is not None) for i in images), "files"))
    return _ambiguous_note(images, found)


@dataclass(frozen=True)
class _Checked:
    """What is wrong with one image and its mask; unusable: of that, what keeps them from being read; share: of the mask
    that is object, None without a readable mask; ambiguous: which way round the mask was drawn cannot be told."""

    problems: list[str]
    unusable: list[str]
    share: float | None
    ambiguous: bool


def _check_image(item: TestImage) -> _Checked:
    problems, size, mask, ambiguous = [], None, None, False
    try:
        mask = None if item.truth is None else read_binary(item.truth).object
    except UserError as error:
        problems.append(str(error))
    try:
        image = load_rgb(item.image, fits=None if mask is None else mask.shape)
        size, ambiguous = image.size, image.ambiguous
    except UserError as error:
        problems.append(str(error))
    unusable = list(problems)
    if size is not None and mask is not None and mask.shape != size:
        problems.append(
            f"{item.truth}: mask of {mask.shape[1]}x{mask.shape[0]} for an image of {size[1]}x{size[0]} "
            f"({item.image}); width x height must be equal"
        )
    share = None if mask is None else float(mask.mean())
    return _Checked(problems, unusable, share, ambiguous)


def _ambiguous_note(images: Sequence[TestImage], found: Sequence[_Checked]) -> list[str]:
    ambiguous = [str(i.image) for i, checked in zip(images, found) if checked.ambiguous]
    if not ambiguous:
        return []
    return [f"{counted(len(ambiguous), 'photograph')} with an EXIF rotation that keeps the size, so that it is not "
            f"known which way round the mask is; taken upright: {shorten(ambiguous)}"]


def _share_notes(shares: dict[tuple[str, str], float | None]) -> list[str]:
    """Classes of which most masks are empty or full: such a set is hardly what was meant."""
    classes: dict[str, list[float]] = {}
    for (category, _), share in shares.items():
        if share is not None:
            classes.setdefault(category, []).append(share)
    notes = []
    for category, found in classes.items():
        for value, what in ((0, "no object"), (1, "nothing but the object")):
            if 2 * found.count(value) > len(found):
                notes.append(f"{category}: {what} in {found.count(value)} of {counted(len(found), 'mask')}")
    return notes


def _class_counts(
    name: str, images: list[TestImage], shows_object: dict[tuple[str, str], bool | None]
) -> tuple[ClassCount, ...]:
    wanted = {canonical_category(c): n for c, n in expected_classes(name).items()}
    members: dict[str, list[TestImage]] = {}
    for image in images:
        members.setdefault(image.category, []).append(image)
    return tuple(
        ClassCount(
            category=category,
            images=len(group),
            wanted=wanted.get(canonical_category(category)),
            masks=sum(i.truth is not None for i in group),
            with_object=sum(shows_object[category, i.name] is True for i in group),
        )
        for category, group in members.items()
    )


def _object_notes(name: str, classes: tuple[ClassCount, ...]) -> list[str]:
    usual = expected_with_object(name)
    found = {canonical_category(c.category): c for c in classes if c.masks}
    pairs = [(found[canonical_category(c)], n) for c, n in usual.items() if canonical_category(c) in found]
    return [
        f"{name}: an object in {counted(c.with_object, 'mask')} of {c.category}, usually reported in {n}"
        for c, n in pairs
        if c.with_object != n
    ]
