"""A store: the decoded samples of one training source at one size, memory-mapped. Written by `store_writer`.

Training from a store and from the files it was made of gives bit-identical samples; what is left of loading is a
copy of one image and the unpacking of its masks. The files, in one folder:

    store.json     the manifest: version, size, source, categories, items, and a checksum of itself
    chunks.jsonl   one line per finished chunk of images: its SHA-256, which images are grey, have void, cannot be read
    images.u8      (n, 3, H, W) uint8
    masks.bits     (pairs, ceil(H*W/8)) uint8: a row per (image, category), in the order of the items, np.packbits
    void.bits      (n, ceil(H*W/8)) uint8, sparse: only rows of images that have void pixels are written or read

The manifest is written first and says where everything will lie; a chunk counts only once its line stands in
chunks.jsonl, and the store is complete once every chunk has one.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..errors import DataError, MissingFileError
from .records import Item, Sample, Source

FORMAT, VERSION = "ssnm-store", 1
MANIFEST, RECORDS, IMAGES, MASKS, VOIDS = "store.json", "chunks.jsonl", "images.u8", "masks.bits", "void.bits"


@dataclass(frozen=True)
class StoreManifest:
    """What a store holds and where; fixed before the first image is written.

    size (H, W); chunk_images: images per chunk; source_name and source_kind: name and class of the source;
    names, images: name and file (None for drawn pictures) of each image; per_image: how many categories each image
    has; pairs: positions in `categories`, image after image, in the order of each item's categories.
    """

    size: tuple[int, int]
    chunk_images: int
    source_name: str
    source_kind: str
    categories: tuple[str, ...]
    names: tuple[str, ...]
    images: tuple[str | None, ...]
    per_image: tuple[int, ...]
    pairs: tuple[int, ...]

    @classmethod
    def of(cls, source: Source, size: tuple[int, int], chunk_images: int) -> "StoreManifest":
        """The manifest of a store of `source`."""
        column = {name: k for k, name in enumerate(source.categories)}
        items = list(source.items)
        return cls(
            size=(int(size[0]), int(size[1])),
            chunk_images=chunk_images,
            source_name=source.name,
            source_kind=type(source).__name__,
            categories=tuple(source.categories),
            names=tuple(item.name for item in items),
            images=tuple(None if item.image is None else str(item.image) for item in items),
            per_image=tuple(len(item.categories) for item in items),
            pairs=tuple(column[c] for item in items for c in item.categories),
        )

    @property
    def num_images(self) -> int:
        return len(self.names)

    @property
    def num_chunks(self) -> int:
        return -(-self.num_images // self.chunk_images)

    @property
    def image_bytes(self) -> int:
        return 3 * self.size[0] * self.size[1]

    @property
    def mask_bytes(self) -> int:
        """Of one mask: a bit per pixel, whole bytes."""
        return -(-self.size[0] * self.size[1] // 8)

    @cached_property
    def mask_rows(self) -> np.ndarray:
        """(n + 1,) int64: the masks of image i are the rows ``mask_rows[i]:mask_rows[i + 1]``."""
        return np.concatenate([[0], np.cumsum(np.asarray(self.per_image, dtype=np.int64))])

    def chunk(self, number: int) -> range:
        """The images of one chunk."""
        begin = number * self.chunk_images
        return range(begin, min(begin + self.chunk_images, self.num_images))

    def categories_of(self, image: int) -> tuple[str, ...]:
        begin, end = self.mask_rows[image : image + 2]
        return tuple(self.categories[k] for k in self.pairs[begin:end])

    def difference(self, source: Source) -> str | None:
        """The first thing in which the store's images are not those of `source`; None: they are the same."""
        other = StoreManifest.of(source, self.size, self.chunk_images)
        for what, mine, its in (
            ("a source of type", self.source_kind, other.source_kind),
            ("the categories", self.categories, other.categories),
            ("the number of images", self.num_images, other.num_images),
        ):
            if mine != its:
                return f"{what} {mine!r:.80}, not {its!r:.80}"
        if (self.names, self.per_image, self.pairs) == (other.names, other.per_image, other.pairs):
            return None
        for i, (mine, its) in enumerate(zip(self.names, other.names)):
            if mine != its or self.categories_of(i) != other.categories_of(i):
                return f"image {i} {mine!r} {self.categories_of(i)}, not {its!r} {other.categories_of(i)}"
        return None

    def to_json(self) -> bytes:
        content = asdict(self)
        document = {"format": FORMAT, "version": VERSION, "sha256": _digest_of(content), **content}
        return json.dumps(document, separators=(",", ":")).encode()


def read_manifest(root: str | Path) -> StoreManifest:
    """The manifest of the store in the folder `root`.

    Raises:
        MissingFileError: there is no store.
        DataError: something else, another version, or damaged.
    """
    path = Path(root) / MANIFEST
    try:
        document = json.loads(path.read_bytes())
        known = document.pop("format", None) == FORMAT
        version, digest = document.pop("version", None), document.pop("sha256", None)
    except FileNotFoundError:
        raise MissingFileError(f"{path}: no such store; make one with: ssnm datasets cache CONFIG --out DIR") from None
    except (ValueError, AttributeError):
        known, version, digest = False, None, None
    if not known or version != VERSION:
        raise DataError(f"{path}: a {FORMAT} of version {VERSION} was expected; remove the folder and make it again")
    if digest != _digest_of(document):
        raise DataError(f"{path}: does not fit its checksum; remove the folder and make the store again")
    return StoreManifest(**{k: tuple(v) if isinstance(v, list) else v for k, v in document.items()})


def read_records(root: str | Path) -> dict[int, dict]:
    """Chunk number -> {"chunk", "sha256", "grey", "void": image numbers, "bad": {image number: what is wrong}}.

    A line that a kill cut off is left out; of several lines of one chunk the last counts.
    """
    path, records = Path(root) / RECORDS, {}
    for line in path.read_text(encoding="utf-8").splitlines() if path.is_file() else ():
        try:
            record = json.loads(line)
        except ValueError:
            continue
        records[record["chunk"]] = record
    return records


def chunk_digest(root: Path, manifest: StoreManifest, number: int, voids: Sequence[int]) -> str:
    """SHA-256 of what the files hold for a chunk: its images, its masks, the void rows of images `voids`.

    Bytes that are not there (yet) make another digest, not an error.
    """
    images, digest = manifest.chunk(number), hashlib.sha256()
    rows = manifest.mask_rows[images.start], manifest.mask_rows[images.stop]
    places = [(IMAGES, manifest.image_bytes, images.start, images.stop), (MASKS, manifest.mask_bytes, *rows)]
    places += [(VOIDS, manifest.mask_bytes, i, i + 1) for i in voids]
    for name, length, begin, end in places:
        try:
            with open(root / name, "rb") as file:
                file.seek(int(begin) * length)
                digest.update(file.read(int(end - begin) * length))
        except FileNotFoundError:
            digest.update(b"missing")
    return digest.hexdigest()


def verify_store(root: str | Path, progress: Callable[[int, int], None] | None = None) -> list[str]:
    """Read every byte of a store again; one line per chunk that is not there or does not fit its checksum."""
    root = Path(root)
    manifest, records, problems = read_manifest(root), read_records(root), []
    for number in range(manifest.num_chunks):
        record = records.get(number)
        if record is None:
            problems.append(f"chunk {number}: not written yet")
        elif chunk_digest(root, manifest, number, record["void"]) != record["sha256"]:
            problems.append(f"chunk {number}: does not fit its checksum")
        if progress:
            progress(number + 1, manifest.num_chunks)
    return problems


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
        DataError: it is unfinished or damaged, of another size, or made of another source.
    """

    def __init__(self, root: str | Path, size: tuple[int, int] | None = None, source: Source | None = None) -> None:
        self.root = Path(root)
        self._manifest = manifest = read_manifest(self.root)
        if size is not None:
            self._require_size(size)
        difference = manifest.difference(source) if source is not None else None
        if difference:
            raise DataError(f"{self.root}: the store has {difference} as '{source.name}' has now; make it again with: "
                            "ssnm datasets cache")  # fmt: skip
        self._grey, self._has_void, self._bad = self._read_flags()
        self._check_files()
        self.name = manifest.source_name if source is None else source.name
        self.categories: tuple[str, ...] = manifest.categories
        self.items: Sequence[Item] = _StoredItems(manifest) if source is None else source.items
        self._maps: tuple[np.ndarray, np.ndarray, np.ndarray | None] | None = None

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of every sample."""
        return self._manifest.size

    @property
    def bad(self) -> dict[int, str]:
        """Images that could not be read when the store was made, and why; loading one raises that again."""
        return dict(self._bad)

    def load(self, index: int, size: tuple[int, int]) -> Sample:
        """Read sample `index`; `size` must be the store's.

        Raises:
            DataError: another size, or an image that could not be read when the store was made.
        """
        index = range(len(self.items))[index]
        self._require_size(size)
        if index in self._bad:
            raise DataError(self._bad[index])
        if self._maps is None:
            self._maps = self._open()
        images, masks, voids = self._maps
        begin, end = self._manifest.mask_rows[index : index + 2]
        void = self._has_void[index]
        return Sample(
            image=torch.from_numpy(images[index].copy()),
            masks=_unpack(masks[begin:end], self.size),
            void=_unpack(voids[index : index + 1], self.size)[0] if void else torch.zeros(self.size, dtype=torch.bool),
            grey=bool(self._grey[index]),
        )

    def __getstate__(self) -> dict:
        return {**self.__dict__, "_maps": None}

    def _require_size(self, size: tuple[int, int]) -> None:
        if tuple(size) != self.size:
            wanted, held = ("x".join(map(str, s)) for s in (size, self.size))
            raise DataError(f"{self.root}: the store holds images of {held}, {wanted} was asked for; set data.size to "
                            "the store's, or make another with: ssnm datasets cache --size")  # fmt: skip

    def _read_flags(self) -> tuple[np.ndarray, np.ndarray, dict[int, str]]:
        manifest, records = self._manifest, read_records(self.root)
        done = sum(number in records for number in range(manifest.num_chunks))
        if done < manifest.num_chunks:
            raise DataError(f"{self.root}: unfinished, {done} of {manifest.num_chunks} chunks are written; finish it "
                            "by running the same ssnm datasets cache again")  # fmt: skip
        grey, void = np.zeros(manifest.num_images, bool), np.zeros(manifest.num_images, bool)
        bad: dict[int, str] = {}
        for record in records.values():
            grey[record["grey"]], void[record["void"]] = True, True
            bad |= {int(i): problem for i, problem in record["bad"].items()}
        return grey, void, bad

    def _check_files(self) -> None:
        """Sizes only; :func:`verify_store` reads everything. A mapping beyond the end of a file would crash."""
        manifest = self._manifest
        last = int(np.flatnonzero(self._has_void)[-1]) + 1 if self._has_void.any() else 0
        for name, least in (
            (IMAGES, manifest.num_images * manifest.image_bytes),
            (MASKS, int(manifest.mask_rows[-1]) * manifest.mask_bytes),
            (VOIDS, last * manifest.mask_bytes),
        ):
            path = self.root / name
            if least and not path.is_file():
                raise MissingFileError(f"{path}: no such file; run the same ssnm datasets cache again")
            if least and path.stat().st_size < least:
                raise DataError(f"{path}: {path.stat().st_size} bytes, {least} were expected; run the same ssnm "
                                "datasets cache again")  # fmt: skip

    def _open(self) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
        manifest = self._manifest
        images = np.memmap(self.root / IMAGES, np.uint8, "r", shape=(manifest.num_images, 3, *manifest.size))
        masks = np.memmap(self.root / MASKS, np.uint8, "r", shape=(len(manifest.pairs), manifest.mask_bytes))
        voids = None
        if self._has_void.any():
            rows = int(np.flatnonzero(self._has_void)[-1]) + 1
            voids = np.asarray(np.memmap(self.root / VOIDS, np.uint8, "r", shape=(rows, manifest.mask_bytes)))
        return np.asarray(images), np.asarray(masks), voids


class _StoredItems(Sequence):
    """Items made on request, so that workers do not copy 100,000 objects."""

    def __init__(self, manifest: StoreManifest) -> None:
        self._manifest = manifest

    def __len__(self) -> int:
        return self._manifest.num_images

    def __getitem__(self, position):
        if isinstance(position, slice):
            return [self[i] for i in range(len(self))[position]]
        position, m = range(len(self))[position], self._manifest
        image = m.images[position]
        return Item(m.names[position], None if image is None else Path(image), m.categories_of(position))


def _unpack(rows: np.ndarray, size: tuple[int, int]) -> Tensor:
    """Packed masks (K, ceil(H*W/8)) uint8 -> (K, H, W) bool."""
    bits = np.unpackbits(rows, axis=1, count=size[0] * size[1])
    return torch.from_numpy(bits.view(np.bool_).reshape(len(rows), *size))


def _digest_of(content: dict) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
