"""Which predicted map belongs to which ground truth. A wrong pairing is an error that names the file."""

from __future__ import annotations

import shlex
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..errors import DataError, MissingFileError
from ..files.listing import images_by_stem, plain_stem, select_names
from ..naming import canonical_category, counted, natural_key

FLAT_CLASS = "all"
MAP_SUFFIXES = (".png",)


@dataclass(frozen=True)
class Pair:
    """The map and the ground truth of one image; category is its folder, name its file name without suffix."""

    category: str
    name: str
    map: Path
    truth: Path


@dataclass(frozen=True)
class Pairing:
    """pairs in natural order of class and name; extra: maps without ground truth, where these were allowed."""

    pairs: tuple[Pair, ...]
    extra: tuple[Path, ...] = ()


def find_pairs(
    pred_dir: str | Path, truth_dir: str | Path, classes: Sequence[str] | None = None, allow_extra: bool = False
) -> Pairing:
    """Pair ``pred_dir/<class>/<stem>.png`` with ``truth_dir/<class>/<stem>.<image suffix>``.

    truth_dir: the ground-truth folder, or the root of a data set that holds it as ``groundtruth``. Images lying
    directly in it are one class ``all``, with their maps in ``pred_dir/all`` (as the test command writes them) or,
    where there is no such folder, directly in pred_dir. The classes are the folders of
    the ground truth (or those named in ``classes``); in pred_dir only PNG files count, and folders whose names
    start with ``_`` or ``.`` are nobody's maps. Classes are compared by :func:`ssnm.naming.canonical_category`, where
    that tells them apart; names of files in composed form (NFC).

    Raises:
        MissingFileError: a folder, class folder or map is missing.
        DataError: two files of one stem, an empty class folder, files beside class folders, or (unless
            allow_extra) a map without ground truth.
        ConfigError: a name in ``classes`` that is no folder of the ground truth.
    """
    pred_dir, truth_root = _existing(pred_dir, "predictions"), _truth_root(truth_dir)
    folders = _class_folders(truth_root)
    homes = _map_folders(pred_dir, folders)
    extra = _foreign_folders(pred_dir, set(homes.values()))
    pairs: list[Pair] = []
    selected = _selected(folders, classes, truth_root)
    for category, truth_folder in selected.items():
        flat = truth_folder == truth_root and not (pred_dir / FLAT_CLASS).is_dir()
        map_folder = pred_dir if flat else homes.get(category, pred_dir / category)
        if not map_folder.is_dir():
            raise MissingFileError(_missing_folder_message(map_folder, selected))
        of_class, extra_of_class = _pair_class(category, map_folder, truth_folder)
        pairs += of_class
        extra += extra_of_class
    if extra and not allow_extra:
        raise DataError(
            f"{extra[0]}: no ground truth under {truth_root} belongs to this "
            f"({counted(len(extra), 'such map or folder', 'such maps or folders')}); "
            "remove it or allow extra maps (--allow-extra)"
        )
    return Pairing(tuple(pairs), tuple(extra))


def _existing(folder: str | Path, what: str) -> Path:
    folder = Path(folder)
    if not folder.is_dir():
        raise MissingFileError(f"{folder}: no such folder of {what}")
    return folder


def _truth_root(truth_dir: str | Path) -> Path:
    folder = _existing(truth_dir, "ground truth")
    return folder / "groundtruth" if (folder / "groundtruth").is_dir() else folder


def _class_folders(truth_root: Path) -> dict[str, Path]:
    """Class name -> ground-truth folder, in natural order; the root itself where images lie in it directly."""
    folders = sorted(_visible_folders(truth_root), key=lambda p: natural_key(p.name))
    loose = images_by_stem(truth_root)
    if loose and folders:
        raise DataError(f"{next(iter(loose.values()))}: lies beside the class folders; move it into one, or remove it")
    if not loose and not folders:
        raise DataError(f"{truth_root}: holds neither class folders nor images; give the folder of masks or its root")
    return {FLAT_CLASS: truth_root} if loose else {p.name: p for p in folders}


def _selected(folders: dict[str, Path], classes: Sequence[str] | None, truth_root: Path) -> dict[str, Path]:
    if classes is None:
        return folders
    names = select_names(folders, classes, str(truth_root))
    return {name: folders[name] for name in names}


def _visible_folders(folder: Path) -> list[Path]:
    return [p for p in folder.iterdir() if p.is_dir() and not p.name.startswith(("_", "."))]


def _map_folders(pred_dir: Path, folders: dict[str, Path]) -> dict[str, Path]:
    """Class of the ground truth -> its folder of maps, where there is one: of the same name, else of the same class."""
    there = _visible_folders(pred_dir)
    by_name = {p.name: p for p in there}
    by_class: dict[str, list[Path]] = {}
    for path in there:
        by_class.setdefault(canonical_category(path.name), []).append(path)
    homes = {}
    for name in folders:
        alike = [p for p in by_class.get(canonical_category(name), []) if p.name not in folders]
        if name in by_name or len(alike) == 1:
            homes[name] = by_name.get(name) or alike[0]
    return homes


def _foreign_folders(pred_dir: Path, known: Collection[Path]) -> list[Path]:
    """Folders of maps that are no class of the ground truth."""
    unknown = [p for p in _visible_folders(pred_dir) if p not in known]
    with_maps = [p for p in unknown if any(f.suffix.lower() in MAP_SUFFIXES for f in p.iterdir())]
    return sorted(with_maps, key=lambda p: natural_key(p.name))


def _pair_class(category: str, map_folder: Path, truth_folder: Path) -> tuple[list[Pair], list[Path]]:
    truths = images_by_stem(truth_folder)
    if not truths:
        raise DataError(f"{truth_folder}: holds no ground-truth image; fill the class folder or remove it")
    maps = images_by_stem(map_folder, MAP_SUFFIXES)
    missing = [stem for stem in truths if stem not in maps]
    if missing:
        raise MissingFileError(_missing_message(missing, map_folder, truths))
    pairs = [Pair(category, stem, maps[stem], truth) for stem, truth in truths.items()]
    return pairs, [path for stem, path in maps.items() if stem not in truths]


def _missing_folder_message(map_folder: Path, folders: dict[str, Path]) -> str:
    message = f"{map_folder}: no such folder of maps, but {folders[map_folder.name]} has ground truth for it"
    present = [name for name in folders if (map_folder.parent / name).is_dir()]
    if not present:
        return f"{message}, and no other class has maps; give the folder that holds the class folders"
    absent = counted(len(set(folders) - set(present)), "class folder")
    rest = shlex.quote(",".join(present))
    return f"{message} ({absent} missing); add the maps, or score only the others: --classes {rest}"


def _missing_message(missing: list[str], map_folder: Path, truths: dict[str, Path]) -> str:
    wanted = map_folder / f"{missing[0]}.png"
    absent = counted(len(missing), "map")
    message = f"{wanted}: no map for the ground truth {truths[missing[0]]} ({absent} missing here)"
    other = sorted(p.name for p in map_folder.glob("*") if plain_stem(p) == missing[0])
    return f"{message}; {other[0]} is there, but maps are read from PNG only" if other else message
