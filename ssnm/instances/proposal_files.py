"""Proposals of others: MCG's .mat files, COCO run lengths, the automatic masks of SAM, folders of masks.

What each place may look like (NAME is an image's file name without suffix):

    FILE.json          COCO results of all images; `image_id` is the NAME, or its number as COCO writes it (139 for
                       000000000139), or an id of the file's own `images` list
    DIR/NAME.json      one image: a list of run lengths, or of dicts with `segmentation` as SAM's generator gives them
    DIR/NAME.mat       MCG: variable `masks`, h x w x M; MATLAB 7.3 (h5py) and older files (scipy)
    DIR/NAME/*.png     one mask per file
    DIR/NAME_*.png     the same without a folder of its own
"""

from __future__ import annotations

import json
import unicodedata
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ..data.coco_results import decode_mask, read_results
from ..errors import DataError, MissingFileError, MissingPackageError
from ..files.listing import list_folders, list_images, plain_stem
from ..files.masks import read_binary

HDF5_SIGNATURE = b"\x89HDF"


class StoredProposals(Sequence):
    """The proposals of a list of images, read when asked for.

    Args:
        place: a file or folder as above.
        names: of the images, with or without suffix; folders before them are not looked at.

    Raises:
        MissingFileError, DataError: nothing there, or none for one of the images.
    """

    def __init__(self, place: str | Path, names: Sequence[str]) -> None:
        self.place, self.names = Path(place), [plain_stem(Path(name)) for name in names]
        if not self.place.exists():
            raise MissingFileError(f"{self.place}: no such file or folder of proposals")
        self._stored = {end: {plain_stem(p): p for p in self.place.glob(f"*{end}")} for end in (".mat", ".json")}
        self._folders = {unicodedata.normalize("NFC", p.name): p for p in list_folders(self.place)} \
            if self.place.is_dir() else {}  # fmt: skip
        self._entries = _by_name(self.place, self.names) if self.place.is_file() else None
        for name in self.names:
            self._source(name)

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> np.ndarray:
        """(M, h, w) bool of image `index`, at the size in which they are stored."""
        if not -len(self) <= index < len(self):
            raise IndexError(f"image {index} of {len(self)}")
        source = self._source(self.names[index])
        if isinstance(source, list) and source and isinstance(source[0], Path):
            return stacked([read_binary(path).object for path in source], str(source[0].parent))
        if isinstance(source, list):
            return masks_of_entries(source, f"{self.place}, image {self.names[index]}")
        if source.suffix == ".mat":
            return read_mat(source)
        return masks_of_entries(_json_list(source), str(source))

    def _source(self, name: str) -> Path | list:
        """A file, the files of a folder, or the entries of the one file."""
        if self._entries is not None:
            return self._entries[name]
        for suffix in (".mat", ".json"):
            if name in self._stored[suffix]:
                return self._stored[suffix][name]
        files = list_images(self._folders[name]) if name in self._folders else []
        files = files or [p for p in list_images(self.place) if plain_stem(p).startswith(f"{name}_")]
        if not files:
            raise MissingFileError(f"{self.place}: no proposals of image {name}; {name}.mat, {name}.json, {name}/*.png "
                                   f"or {name}_*.png were looked for")  # fmt: skip
        return files


def masks_of_entries(entries: Sequence[Any], where: str) -> np.ndarray:
    """Run lengths, or dicts whose `segmentation` is run lengths or an array -> (M, h, w) bool.

    Raises:
        DataError: other entries, or masks of several sizes.
    """
    masks = []
    for number, entry in enumerate(entries):
        code = entry["segmentation"] if isinstance(entry, dict) and "segmentation" in entry else entry
        if isinstance(code, dict):
            masks.append(decode_mask(code, f"{where}, proposal {number}"))
        elif isinstance(code, np.ndarray) and code.ndim == 2:
            masks.append(code > 0)
        else:
            raise DataError(f"{where}, proposal {number}: run lengths or a mask (H, W) were expected, got "
                            f"{str(code)[:60]}; polygons are not read")  # fmt: skip
    return stacked(masks, where)


def read_mat(path: str | Path) -> np.ndarray:
    """Variable `masks` of a .mat file -> (M, h, w) bool.

    Raises:
        MissingPackageError: h5py (MATLAB 7.3) or scipy (older) is not installed.
        DataError: not a .mat file, or without such a variable.
    """
    masks = read_variable(path, "masks")
    if masks.ndim == 2:
        masks = masks[..., None]  # MATLAB drops the last axis of a single mask
    if masks.ndim != 3:
        raise DataError(f"{path}: masks of shape h x w x M were expected, got {masks.shape}")
    return np.ascontiguousarray(np.moveaxis(masks, 2, 0) > 0)  # (h, w, M) -> (M, h, w)


def read_variable(path: str | Path, name: str) -> np.ndarray:
    """A variable of a .mat file, axes in MATLAB's order."""
    path = Path(path)
    with open(path, "rb") as file:
        head = file.read(516)
    newer = HDF5_SIGNATURE in (head[:4], head[512:516])  # MATLAB puts 512 bytes of its own before it
    try:
        value = _read_hdf5(path, name) if newer else _read_mat5(path, name)
    except ImportError:
        package = "h5py" if newer else "scipy"
        raise MissingPackageError(f'{path}: reading it needs {package}, which is not installed; run: pip install -e '
                                  '".[instances]"') from None  # fmt: skip
    except (OSError, ValueError, TypeError, NotImplementedError) as error:
        raise DataError(f"{path}: cannot be read as a MATLAB file ({error}); export it again") from None
    if value is None:
        raise DataError(f"{path}: has no variable '{name}'")
    return value


def _read_hdf5(path: Path, name: str) -> np.ndarray | None:
    import h5py

    with h5py.File(path, "r") as file:  # axes come in reverse order
        return None if name not in file else np.asarray(file[name]).T


def _read_mat5(path: Path, name: str) -> np.ndarray | None:
    from scipy.io import loadmat

    return loadmat(path, variable_names=[name]).get(name)


def stacked(masks: Sequence[np.ndarray], where: str) -> np.ndarray:
    """Masks (h, w) of one size -> (M, h, w) bool; (0, 0, 0) for none.

    Raises:
        DataError: of several sizes.
    """
    sizes = {mask.shape for mask in masks}
    if len(sizes) > 1:
        raise DataError(f"{where}: proposals of sizes {min(sizes)} and {max(sizes)}; those of an image must agree")
    return np.stack(masks) if masks else np.zeros((0, 0, 0), dtype=bool)


def fitted_to(masks: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Masks (M, h, w) bool at (M, *size), by nearest neighbour as the paper's code does."""
    if not len(masks) or masks.shape[1:] == size:
        return masks if len(masks) else np.zeros((0, *size), dtype=bool)
    resized = [Image.fromarray(m.astype(np.uint8)).resize(size[::-1], Image.Resampling.NEAREST) for m in masks]
    return np.stack([np.asarray(m) for m in resized]).astype(bool)


def _by_name(path: Path, names: Sequence[str]) -> dict[str, list]:
    """The entries of one file for each image."""
    entries = read_results(path)
    document = json.loads(path.read_text(encoding="utf-8"))
    listed = document.get("images", []) if isinstance(document, dict) else []
    try:
        ids = {str(image["id"]): plain_stem(Path(str(image["file_name"]))) for image in listed}
    except (KeyError, TypeError) as error:
        raise DataError(f"{path}: images with id and file_name were expected ({type(error).__name__}: {error}); write "
                        "the file again") from None  # fmt: skip
    found = defaultdict(list)
    for entry in entries:
        found[ids.get(str(entry["image_id"]), str(entry["image_id"]))].append(entry)
    result = {}
    for name in names:
        keys = (name, str(int(name))) if name.isdecimal() else (name,)
        key = next((k for k in keys if k in found), None)
        if key is None:
            raise MissingFileError(f"{path}: no proposals of image {name}; its image_id would be {' or '.join(keys)}")
        result[name] = found[key]
    return result


def _json_list(path: Path) -> list:
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: not JSON ({error})") from None
    if not isinstance(entries, list):
        raise DataError(f"{path}: a list of masks was expected, got {type(entries).__name__}")
    return entries
