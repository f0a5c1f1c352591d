"""A store: the decoded samples of one training source at one size, in NumPy files that are mapped into memory.

Training from a store and from the files it was made of gives bit-identical samples; what is left of loading is a
copy of one image and the unpacking of its masks. One folder holds

    images.npy   (n, 3, H, W) uint8
    masks.npy    (rows, ceil(H*W/8)) uint8, a bit per pixel: of each image a row per category, in the order of its
                 item, then one row of its void pixels
    index.json   what the images are, how many are written, which are grey or cannot be read, SHA-256 of both arrays

Images are written in their order and index.json counts them, so that an interrupted run goes on where it was.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from ..engine.runtime import QuietWorkersLoader
from ..errors import DataError, MissingFileError
from ..files.atomic import write_atomically
from ..files.progress import Progress
from .records import Item, Sample, Source

INDEX, IMAGES, MASKS = "index.json", "images.npy", "masks.npy"
FORMAT = "ssnm-store-2"
_COUNT_EVERY = 2048  # images: what a kill can cost
_AGAIN = "run the same ssnm datasets cache again"
_ANEW = f"remove the folder and {_AGAIN}"


class StoreSource:
    """The images of a store; implements :class:`ssnm.data.records.Source`. Files are mapped by the first :meth:`load`
    of each process, so that a source can be sent to loader workers.

    Args:
        root: the store's folder.
        size: the (height, width) that training wants; None: whatever the store has.
        source: the source that the store must have been made of; its name and items are then used, so that
            messages name the files where they lie now. None: the store stands alone.

    Raises:
        MissingFileError: no store there, or one of its files is missing.
        DataError: it is unfinished or damaged, of another size or version, or made of another source.
    """

    def __init__(self, root: str | Path, size: tuple[int, int] | None = None, source: Source | None = None) -> None:
        self.root = Path(root)
        self._index = index = read_index(self.root)
        self.size: tuple[int, int] = tuple(index["size"])
        if size is not None:
            self._require_size(size)
        difference = None if source is None else _difference(index, source)
        if difference:
            raise DataError(f"{self.root}: the store has {difference} as '{source.name}' has now; make it again with: "
                            "ssnm datasets cache")  # fmt: skip
        if not index["sha256"]:
            raise DataError(f"{self.root}: {_unfinished(index)}")
        self.name: str = index["name"] if source is None else source.name
        self.categories: tuple[str, ...] = tuple(index["categories"])
        self.items: Sequence[Item] = _items(index) if source is None else source.items
        self.bad = {int(i): problem for i, problem in index["bad"].items()}
        self._grey, self._rows = frozenset(index["grey"]), _first_rows(index)
        _open_arrays(self.root, index)  # a file that is missing or short is told now, not in a worker
        self._arrays: tuple[np.ndarray, np.ndarray] | None = None

    def load(self, index: int, size: tuple[int, int]) -> Sample:
        """Read sample `index`; `size` must be the store's.

        Raises:
            DataError: another size, or an image that could not be read when the store was made.
        """
        index = range(len(self._rows) - 1)[index]
        self._require_size(size)
        if index in self.bad:
            raise DataError(self.bad[index])
        if self._arrays is None:
            self._arrays = _open_arrays(self.root, self._index)
        images, masks = self._arrays
        rows = masks[self._rows[index] : self._rows[index + 1]]
        bits = np.unpackbits(rows, axis=1, count=self.size[0] * self.size[1]).view(np.bool_)
        bits = torch.from_numpy(bits.reshape(len(rows), *self.size))  # (K masks and the void, H, W)
        return Sample(torch.from_numpy(images[index].copy()), bits[:-1], bits[-1], grey=index in self._grey)

    def __getstate__(self) -> dict:
        return {**self.__dict__, "_arrays": None}

    def _require_size(self, size: tuple[int, int]) -> None:
        if tuple(size) != self.size:
            wanted, held = ("x".join(map(str, s)) for s in (size, self.size))
            raise DataError(f"{self.root}: the store holds images of {held}, {wanted} was asked for; set data.size to "
                            "the store's, or make another with: ssnm datasets cache --size")  # fmt: skip


def read_index(root: str | Path) -> dict[str, Any]:
    """The index of the store in the folder `root`.

    Raises:
        MissingFileError: there is no store.
        DataError: one of version 0.1, something else, or damaged.
    """
    path = Path(root) / INDEX
    try:
        index = json.loads(path.read_bytes())
        known = index["format"] == FORMAT
    except FileNotFoundError:
        if not path.with_name("store.json").exists():
            raise MissingFileError(f"{path}: no such file; make the store with: ssnm datasets cache CONFIG "
                                   f"--out {path.parent.parent}") from None  # fmt: skip
        known = False  # a store of version 0.1
    except (ValueError, TypeError, KeyError):
        known = False
    if not known:
        raise DataError(f"{root}: not a store of this version; remove the folder and make the store anew with: ssnm "
                        f"datasets cache CONFIG --out {path.parent.parent}")  # fmt: skip
    return index


def verify_store(root: str | Path) -> list[str]:
    """Read every byte of a store again; one line per file that does not fit its checksum."""
    index = read_index(root)
    if not index["sha256"]:
        return [_unfinished(index)]
    found = _checksums(_open_arrays(Path(root), index))
    return [f"{name} does not fit its checksum; {_ANEW}" for name in found if found[name] != index["sha256"].get(name)]


@dataclass(frozen=True)
class StoreReport:
    """images, and how many of them were written now; num_bytes: of the arrays; bad: image -> why it is unreadable."""

    images: int
    written: int
    num_bytes: int
    bad: dict[str, str]


def write_store(
    source: Source,
    root: str | Path,
    size: tuple[int, int],
    workers: int = 0,
    progress: Progress = lambda done, total: None,
) -> StoreReport:
    """Write, or finish, the store of `source` at `size` = (height, width) in the folder `root`.

    An image that cannot be read is written down with its problem, which :class:`StoreSource` raises again when it is
    asked for that image; running again tries such images anew.

    Args:
        workers: processes beside this one; 0 works in this one.
        progress: called with (images done, images in all).

    Raises:
        DataError: the folder holds a store of another source or size; no room; a worker was killed.
    """
    root = Path(root)
    index = _begin(source, root, size)
    arrays = images, masks = _open_arrays(root, index, "r+")
    total, rows, bad, grey = len(images), _first_rows(index), index["bad"], set(index["grey"])
    todo = [*map(int, bad), *range(index["done"], total)]
    packed_images, needed = _Packed(source, size), min(workers, len(todo))
    loader = QuietWorkersLoader(packed_images, None, sampler=todo, num_workers=needed, collate_fn=_as_it_is)
    for count, (i, (image, packed, is_grey, problem)) in enumerate(zip(todo, _guarded(loader)), 1):
        bad.pop(str(i), None)
        if problem:
            bad[str(i)] = problem
        else:
            images[i], masks[rows[i] : rows[i + 1]] = image, packed
            grey |= {i} if is_grey else set()
        index["done"] = max(index["done"], i + 1)
        if count % _COUNT_EVERY == 0 or count == len(todo):
            images.flush(), masks.flush()
            _write_index(root, {**index, "grey": sorted(grey), "sha256": {}})
        progress(total - len(todo) + count, total)
    if todo or not index["sha256"]:
        _write_index(root, {**index, "grey": sorted(grey), "sha256": _checksums(arrays)})
    names = {i: str(index["items"][int(i)][1] or index["items"][int(i)][0]) for i in bad}
    return StoreReport(total, len(todo), images.nbytes + masks.nbytes, {names[i]: bad[i] for i in bad})


def _begin(source: Source, root: Path, size: tuple[int, int]) -> dict[str, Any]:
    """The index on disk; a new store gets one and its arrays, an old one must be of this source and size."""
    if (root / INDEX).exists() or (root / "store.json").exists():
        index = read_index(root)
        held = tuple(index["size"])
        difference = _difference(index, source) if held == tuple(size) else f"images of size {held}, not {tuple(size)}"
        if difference:
            raise DataError(f"{root}: holds another store, with {difference}; choose another folder or remove that one")
        return index
    index = {"format": FORMAT, "size": list(size), **_description(source), "done": 0, "grey": [], "bad": {}}
    if min(*size, len(index["items"])) < 1:
        raise DataError(f"{root}: a store needs images of a size of at least 1, got {len(index['items'])} of {size}")
    shapes = _shapes(index)
    try:
        root.mkdir(parents=True, exist_ok=True)
        for name, shape in shapes.items():
            start = np.lib.format.open_memmap(root / name, "w+", np.uint8, shape).offset
            with open(root / name, "rb+") as file:  # a full disk is an error now, and not a crash when it is written
                if hasattr(os, "posix_fallocate"):  # not on every system
                    os.posix_fallocate(file.fileno(), 0, start + int(np.prod(shape)))
    except OSError as error:
        for name in shapes:
            (root / name).unlink(missing_ok=True)
        size_gb = sum(map(np.prod, shapes.values())) / 1e9
        raise DataError(f"{root}: the store takes {size_gb:.1f} GB and cannot be written ({error.strerror}); make "
                        "room, or choose another disk or a smaller size") from None  # fmt: skip
    return _write_index(root, {**index, "sha256": {}})


def _description(source: Source) -> dict[str, Any]:
    """What a store must share with its source: its type, and name, file and categories of every image."""
    column = {name: k for k, name in enumerate(source.categories)}
    items = [[item.name, None if item.image is None else str(item.image), [column[c] for c in item.categories]]
             for item in source.items]  # fmt: skip
    return {"type": type(source).__name__, "name": source.name, "categories": list(source.categories), "items": items}


def _difference(index: dict[str, Any], source: Source) -> str | None:
    """The first thing in which the store's images are not those of `source`, wherever its files are; None: the same."""
    other = _description(source)
    pairs = [("a source of type", index["type"], other["type"]),
             ("the categories", index["categories"], other["categories"]),
             ("the number of images", len(index["items"]), len(other["items"]))]  # fmt: skip
    names = index["categories"]
    for i, (mine, its) in enumerate(zip(index["items"], other["items"])):
        if (mine[0], mine[2]) != (its[0], its[2]) and names == other["categories"]:
            pairs.append((f"image {i}", *(f"{name!r} {[names[k] for k in ks]}" for name, _, ks in (mine, its))))
            break
    return next((f"{what} {mine!s:.80}, not {its!s:.80}" for what, mine, its in pairs if mine != its), None)


def _items(index: dict[str, Any]) -> tuple[Item, ...]:
    names = index["categories"]
    return tuple(Item(name, image and Path(image), tuple(names[k] for k in ks)) for name, image, ks in index["items"])


def _first_rows(index: dict[str, Any]) -> np.ndarray:
    """(n + 1,) int64: the masks of image i are the rows ``[i]:[i + 1]``, the last of them its void pixels."""
    return np.cumsum([0] + [len(columns) + 1 for _, _, columns in index["items"]])


def _shapes(index: dict[str, Any]) -> dict[str, tuple[int, ...]]:
    height, width = index["size"]
    rows = sum(len(columns) + 1 for _, _, columns in index["items"])
    return {IMAGES: (len(index["items"]), 3, height, width), MASKS: (rows, -(-height * width // 8))}


def _open_arrays(root: Path, index: dict[str, Any], mode: str = "r") -> tuple[np.ndarray, ...]:
    """images and masks, mapped; whole, and as the index says. :func:`verify_store` reads every byte."""
    arrays = []
    for name, shape in _shapes(index).items():
        try:
            array = np.load(root / name, "r")
        except FileNotFoundError:
            raise MissingFileError(f"{root / name}: no such file; {_ANEW}") from None
        except (OSError, ValueError) as error:
            raise DataError(f"{root / name}: cannot be used ({error}); {_ANEW}") from None
        if array.shape != shape or array.dtype != np.uint8:
            raise DataError(f"{root / name}: {array.dtype} {array.shape}, uint8 {shape} was expected; {_ANEW}")
        arrays.append(array if mode == "r" else np.load(root / name, mode))  # "r+" alone would lengthen a short file
    return tuple(arrays)


def _checksums(arrays: Sequence[np.ndarray]) -> dict[str, str]:
    return {name: hashlib.sha256(array).hexdigest() for name, array in zip((IMAGES, MASKS), arrays)}


def _unfinished(index: dict[str, Any]) -> str:
    return f"unfinished, {index['done']} of {len(index['items'])} images are written; {_AGAIN}"


def _write_index(root: Path, index: dict[str, Any]) -> dict[str, Any]:
    write_atomically(root / INDEX, json.dumps(index, separators=(",", ":")))
    return index


class _Packed(Dataset):
    """Image number -> (image (3, H, W), packed rows of its masks and its void, grey, what is wrong with it)."""

    def __init__(self, source: Source, size: tuple[int, int]) -> None:
        self.source, self.size = source, size

    def __getitem__(self, index: int) -> tuple[np.ndarray | None, np.ndarray | None, bool, str]:
        try:
            sample = self.source.load(index, self.size)
        except (DataError, MissingFileError) as error:
            return None, None, False, str(error)
        bits = torch.cat([sample.masks, sample.void[None]]).flatten(1)
        return sample.image.numpy(), np.packbits(bits.numpy(), axis=1), sample.grey, ""


def _as_it_is(thing: tuple) -> tuple:
    return thing


def _guarded(loader: DataLoader):
    try:
        yield from loader
    except RuntimeError as error:
        raise DataError(f"a worker ended ({str(error).splitlines()[0]}); {_AGAIN}, with fewer workers") from error
