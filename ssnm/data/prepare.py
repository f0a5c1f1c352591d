"""Building the processed layout of a test set from what one downloads: ``ssnm datasets prepare``. No torch.

Images are copied byte for byte (never compressed again), masks are written as 0/255 PNG. Every file is written
under a hidden name and renamed, so that an interrupted run leaves whole files only, and the same command
finishes it. A folder that holds files of another set or choice is refused, so that sets never mix.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from ..errors import DataError, MissingFileError
from ..files.atomic import mask_png, remove_partials, write_atomically
from ..files.images import load_rgb
from ..files.listing import shorten
from ..files.parallel import in_threads
from ..naming import counted
from .prepare_raw import RawPair, RawSet, find_icoseg, find_internet, find_msrc, find_pascal_voc
from .testsets import expected_with_object, scan_test_set

_PARTS = ("image", "groundtruth")
PREPARED_SETS = ("msrc", "internet", "icoseg", "pascal_voc")


@dataclass(frozen=True)
class Prepared:
    """What was done: pairs written now, pairs that were there already, images per class, and warnings."""

    name: str
    root: Path
    written: int
    kept: int
    counts: dict[str, int]
    warnings: tuple[str, ...]


def prepare_test_set(
    name: str,
    raw: str | Path,
    root: str | Path,
    image_list: str | Path | None = None,
    groups: Mapping[str, str] | None = None,
    workers: int = 8,
    progress: Callable[[int, int], None] | None = None,
) -> Prepared:
    """Build ``ROOT/image/<class>/*`` and ``ROOT/groundtruth/<class>/*.png`` of test set `name` from `raw`.

    Args:
        name: one of ``PREPARED_SETS``.
        raw: the unpacked download; docs/datasets.md shows the layouts that are understood.
        root: the folder to build, made if needed; running again finishes an interrupted run.
        image_list: msrc only, CSV with the columns class,file: which images to take.
        groups: icoseg only, group -> name of its raw folder where the names differ.
        workers: threads; more than cores pay, since most of the time goes into flushing files to the disk.
        progress: called with (pairs done, pairs in all).

    Raises:
        MissingFileError, DataError: `raw` is not laid out as expected, a file is damaged, image and mask differ
            in size, `root` holds other files, or a file cannot be written.
    """
    raw, root = Path(raw), Path(root)
    found = find_raw(name, raw, image_list, groups)
    if not found.pairs:
        raise DataError(f"{raw}: nothing of {name} found; " + ("; ".join(found.warnings) or "see docs/datasets.md"))
    _refuse_other_files(root, found)
    for part in _PARTS:
        remove_partials(root / part)
    written = _write_all(found.pairs, root, workers, progress)
    empty = [str(pair.truth) for pair in written if pair.is_empty]
    scan = scan_test_set(name, root)
    lines = [*found.warnings, *scan.problems, *scan.warnings]
    if empty and not expected_with_object(name):  # only Internet has images without the object
        lines.append(
            f"{name}: {counted(len(empty), 'label file')} without the object; the set's own? {shorten(empty)}"
        )
    counts = dict(Counter(pair.category for pair in found.pairs))
    return Prepared(name, root, len(written), len(found.pairs) - len(written), counts, tuple(dict.fromkeys(lines)))


@dataclass(frozen=True)
class _WrittenPair:
    truth: Path
    is_empty: bool


def find_raw(
    name: str, raw: Path, image_list: str | Path | None = None, groups: Mapping[str, str] | None = None
) -> RawSet:
    """The pairs of test set `name` in the download `raw`; arguments as for :func:`prepare_test_set`."""
    if name not in PREPARED_SETS:
        raise DataError(f"test set {name!r} cannot be prepared; choose one of {', '.join(PREPARED_SETS)}")
    if image_list is not None and name != "msrc":
        raise DataError(f"a list of images is for msrc only, {name} has its own; leave it out")
    if groups and name != "icoseg":
        raise DataError(f"names of groups are for icoseg only, not {name}; leave them out")
    if not raw.is_dir():
        raise MissingFileError(f"{raw}: no such folder; give the folder into which the download was unpacked")
    if name == "msrc":
        return find_msrc(raw, image_list)
    if name == "icoseg":
        return find_icoseg(raw, groups)
    return find_internet(raw) if name == "internet" else find_pascal_voc(raw)


def _targets(pair: RawPair, root: Path) -> tuple[Path, Path]:
    image = root / "image" / pair.category / f"{pair.stem}{pair.image.suffix.lower()}"
    return image, root / "groundtruth" / pair.category / f"{pair.stem}.png"


def _refuse_other_files(root: Path, found: RawSet) -> None:
    """Raise if `root` holds image or mask files that this run would not write."""
    wanted = {target for pair in found.pairs for target in _targets(pair, root)}
    for part in _PARTS:
        for path in sorted((root / part).rglob("*")):
            if path.is_file() and path not in wanted and not path.name.startswith("."):
                raise DataError(
                    f"{path}: is not part of what would be prepared here; give an empty folder or remove it"
                )


def _write_all(
    pairs: list[RawPair], root: Path, workers: int, progress: Callable[[int, int], None] | None
) -> list[_WrittenPair]:
    """Write all pairs in threads; the first error stops the rest. Returns those that were not there already."""
    written = []
    for done, pair in enumerate(in_threads(lambda p: _write_pair(p, root), pairs, workers), start=1):
        written += [pair] if pair else []
        if progress:
            progress(done, len(pairs))
    return written


def _write_pair(pair: RawPair, root: Path) -> _WrittenPair | None:
    """Write one mask and its image, in this order; None where both were there."""
    image_target, truth_target = _targets(pair, root)
    try:
        data = pair.image.read_bytes()
    except OSError as error:
        raise DataError(f"{pair.image}: cannot be read ({error.strerror}); mend that and run again") from None
    if image_target.is_file():
        if image_target.read_bytes() != data:
            raise DataError(f"{image_target}: differs from {pair.image}; give an empty folder or remove it")
        if truth_target.is_file():
            return None
    mask = pair.read_mask()
    height, width = load_rgb(pair.image, fits=mask.shape).size
    if mask.shape != (height, width):
        raise DataError(
            f"{pair.truth}: mask of {mask.shape[1]}x{mask.shape[0]} for an image of {width}x{height} "
            f"({pair.image}); replace the damaged one"
        )
    write_atomically(truth_target, mask_png(mask))
    write_atomically(image_target, data)
    return _WrittenPair(pair.truth, not mask.any())
