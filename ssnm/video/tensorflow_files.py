"""Reading TensorFlow's checkpoints with numpy alone: both formats that TensorFlow 1 wrote.

Both are sorted-string tables (as LevelDB has them): blocks of key-value pairs with prefix-shortened keys, an index
block that says where they are, and a footer of 48 bytes.

V2   `NAME.index`: a table whose values are small protobuf messages (type, shape, where the bytes lie), and
     `NAME.data-00000-of-00001`: the raw bytes of all tensors
V1   one file: a table whose values are protobuf messages that hold the tensors themselves

Nothing is guessed: sizes, types, shapes and the checksums of what is read are compared, and what does not fit is a
CheckpointError that names the file and the tensor.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from ..errors import CheckpointError, MissingFileError
from .crc32c import masked_crc32c

FOOTER_BYTES, TABLE_MAGIC = 48, 0xDB4775248B80FB57
BLOCK_TRAILER = 5  # one byte of compression, four of checksum

# tensorflow/core/framework/types.proto: number -> numpy type
DTYPES = {1: "<f4", 2: "<f8", 3: "<i4", 4: "u1", 5: "<i2", 6: "i1", 9: "<i8", 10: "?", 17: "<u2", 19: "<f2",
          22: "<u4", 23: "<u8"}  # fmt: skip
# TensorProto: which field holds the values of a type where they are not raw bytes, and how one value is coded
V1_VALUE_FIELDS = {1: (5, "f4"), 2: (6, "f8"), 3: (7, "varint"), 4: (7, "varint"), 5: (7, "varint"), 6: (7, "varint"),
                   9: (10, "varint"), 10: (11, "varint"), 17: (7, "varint")}  # fmt: skip


def read_checkpoint(path: str | Path) -> dict[str, np.ndarray]:
    """Everything in a checkpoint, {name of the variable: array}, optimiser slots and step included.

    Args:
        path: of a V2 checkpoint its prefix, its `.index` or a `.data` file; a folder with a `checkpoint` file, whose
            latest checkpoint is read; a V1 file; or a `.npz` whose keys are the names.

    Raises:
        MissingFileError: nothing is there, or one of its files is missing.
        CheckpointError: damaged, or no such file.
    """
    path = Path(path)
    if path.is_dir():
        path = _latest_of(path)
    if path.suffix == ".npz":
        return _read_npz(path)
    prefix = Path(re.sub(r"\.(index|data-\d{5}-of-\d{5})$", "", str(path)))
    if Path(f"{prefix}.index").is_file():
        return _read_v2(prefix)
    if not path.is_file():
        raise MissingFileError(f"{path}: no such checkpoint; wanted a prefix of .index and .data files, a V1 file, "
                               "a .npz or a folder with a file named checkpoint")  # fmt: skip
    if prefix != path:
        raise MissingFileError(f"{prefix}.index: not there, but {path.name} needs it")
    return _read_v1(path)


def _latest_of(folder: Path) -> Path:
    state = folder / "checkpoint"
    if not state.is_file():
        raise MissingFileError(f"{folder}: has no file named checkpoint; give the checkpoint's prefix or its .index")
    found = re.search(r'^model_checkpoint_path:\s*"(.+)"', state.read_text(encoding="utf-8", errors="replace"), re.M)
    if not found:
        raise CheckpointError(f"{state}: has no line model_checkpoint_path, so it does not say which one is the latest")
    return folder / Path(found[1]).name  # folders move: the name counts, beside the file


def _read_npz(path: Path) -> dict[str, np.ndarray]:
    if not path.is_file():
        raise MissingFileError(f"{path}: no such file")
    try:
        with np.load(path, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except Exception as error:  # damaged zips and arrays raise many types
        line = (str(error).strip() or type(error).__name__).splitlines()[0][:150]
        raise CheckpointError(f"{path} cannot be read as a .npz of arrays ({line})") from error


# --- Sorted-string tables ----------------------------------------------------------------------------------


def _table(path: Path) -> dict[bytes, memoryview]:
    """All keys and values of a table file; the first key is empty. Keys are names in V2, and a code in V1."""
    content = memoryview(path.read_bytes())
    footer = content[-FOOTER_BYTES:]
    if len(content) < FOOTER_BYTES or struct.unpack("<Q", footer[-8:])[0] != TABLE_MAGIC:
        raise CheckpointError(f"{path} is no TensorFlow checkpoint, or is cut off: a table's footer was expected at "
                              "its end")  # fmt: skip
    try:
        position = 0
        for _ in range(2):  # the meta index, which is empty, then the index
            (offset, position), (size, position) = _two_varints(footer, position)
        index = _block(content, offset, size, path)
        entries: dict[bytes, memoryview] = {}
        for _, handle in _entries(index):
            (offset, _), (size, _) = _two_varints(handle, 0)
            entries |= dict(_entries(_block(content, offset, size, path)))
    except (IndexError, struct.error) as error:
        raise CheckpointError(f"{path} is damaged: its table cannot be followed to its end") from error
    return entries


def _block(content: memoryview, offset: int, size: int, path: Path) -> memoryview:
    block, trailer = content[offset : offset + size], content[offset + size : offset + size + BLOCK_TRAILER]
    if len(block) != size or len(trailer) != BLOCK_TRAILER:
        raise CheckpointError(f"{path} is damaged: a block of {size} bytes at {offset} reaches beyond its end")
    if trailer[0] != 0:
        raise CheckpointError(f"{path}: a block is compressed (type {trailer[0]}), which TensorFlow's own checkpoints "
                              "are not")  # fmt: skip
    if masked_crc32c(content[offset : offset + size + 1]) != struct.unpack("<I", trailer[1:])[0]:
        raise CheckpointError(f"{path} is damaged: the checksum of the block at {offset} does not fit its bytes")
    return block


def _entries(block: memoryview) -> Iterator[tuple[bytes, memoryview]]:
    """Key-value pairs of a block; each key repeats only what it does not share with the one before."""
    restarts = struct.unpack("<I", block[-4:])[0]
    end, position, key = len(block) - 4 * (restarts + 1), 0, b""
    while position < end:
        (shared, position), (own, position) = _two_varints(block, position)
        length, position = _varint(block, position)
        key = key[:shared] + bytes(block[position : position + own])
        position += own
        yield key, block[position : position + length]
        position += length


# --- Protobuf messages -----------------------------------------------------------------------------------


def _varint(data: memoryview, position: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
        shift += 7


def _two_varints(data: memoryview, position: int) -> tuple[tuple[int, int], tuple[int, int]]:
    first = _varint(data, position)
    return first, _varint(data, first[1])


def _fields(message: memoryview) -> dict[int, list]:
    """A protobuf message: field number -> its values, integers or bytes, in order."""
    found: dict[int, list] = {}
    position = 0
    while position < len(message):
        tag, position = _varint(message, position)
        kind = tag & 7
        if kind == 0:
            value, position = _varint(message, position)
        elif kind == 2:
            length, position = _varint(message, position)
            value, position = message[position : position + length], position + length
            if len(value) != length:
                raise IndexError("a field reaches beyond its message")
        elif kind in (1, 5):
            length = 8 if kind == 1 else 4
            value, position = message[position : position + length], position + length
        else:
            raise IndexError(f"wire type {kind}")
        found.setdefault(tag >> 3, []).append(value)
    return found


def _first(fields: dict[int, list], number: int, default=0):
    return fields.get(number, [default])[0]


def _shape(message: memoryview | bytes) -> tuple[int, ...]:
    return tuple(_first(_fields(dim), 1) for dim in _fields(message).get(2, []))


def _dtype(number: int, name: str, path: Path) -> np.dtype:
    if number not in DTYPES:
        raise CheckpointError(f"{path}: {name} has TensorFlow's type {number}, which numpy has not; wanted numbers")
    return np.dtype(DTYPES[number])


# --- The two formats ---------------------------------------------------------------------------------------


def _read_v2(prefix: Path) -> dict[str, np.ndarray]:
    index = Path(f"{prefix}.index")
    entries = _table(index)
    if b"" not in entries:
        raise CheckpointError(f"{index} is no index of a V2 checkpoint: its header is missing")
    try:
        shards = _first(_fields(entries.pop(b"")), 1)
        described = {name.decode(): _fields(entry) for name, entry in entries.items()}
        files = [_shard(prefix, n, shards) for n in range(shards)]
        contents = [np.memmap(f, np.uint8, "r") if f.stat().st_size else np.zeros(0, np.uint8) for f in files]
        return {name: _v2_tensor(name, fields, contents, files, index) for name, fields in described.items()}
    except (IndexError, struct.error, UnicodeDecodeError) as error:
        raise CheckpointError(f"{index} is damaged: an entry cannot be read ({error})") from error


def _shard(prefix: Path, number: int, shards: int) -> Path:
    path = Path(f"{prefix}.data-{number:05d}-of-{shards:05d}")
    if not path.is_file():
        raise MissingFileError(f"{path}: not there, but {prefix.name}.index needs it")
    return path


def _v2_tensor(
    name: str, fields: dict[int, list], contents: list[np.ndarray], files: list[Path], index: Path
) -> np.ndarray:
    dtype, shape = _dtype(_first(fields, 1), name, index), _shape(_first(fields, 2, b""))
    shard, offset, size = _first(fields, 3), _first(fields, 4), _first(fields, 5)
    if 7 in fields:
        raise CheckpointError(f"{index}: {name} is stored in slices; wanted whole variables")
    if size != dtype.itemsize * int(np.prod(shape, dtype=np.int64)) or shard >= len(files):
        raise CheckpointError(f"{index} is damaged: {name} of shape {shape} and type {dtype} cannot have {size} bytes")
    content = contents[shard][offset : offset + size]
    if content.size != size:
        raise CheckpointError(f"{files[shard]} is cut off: {name} reaches beyond its end")
    if masked_crc32c(content) != struct.unpack("<I", _first(fields, 6, bytes(4)))[0]:
        raise CheckpointError(f"{files[shard]} is damaged: the checksum of {name} does not fit its bytes")
    return np.frombuffer(content.tobytes(), dtype).reshape(shape).copy()


def _read_v1(path: Path) -> dict[str, np.ndarray]:
    entries = _table(path)
    if b"" not in entries:
        raise CheckpointError(f"{path} is no V1 checkpoint: its list of tensors is missing")
    try:
        listed = [_fields(t) for t in _fields(_first(_fields(entries.pop(b"")), 1, b"")).get(1, [])]
        wanted = {bytes(_first(t, 1)).decode(): (_first(t, 3), _shape(_first(t, 2, b""))) for t in listed}
        tensors = {}
        for entry in entries.values():
            stored = _fields(_first(_fields(entry), 2, b""))
            name = bytes(_first(stored, 1, b"")).decode()
            if name not in wanted:
                raise CheckpointError(f"{path} is damaged: {name!r} is stored, but not in its list of tensors")
            if any(len(extent) for extent in _fields(_first(stored, 2, b"")).get(1, [])):
                raise CheckpointError(f"{path}: {name} is stored in slices; wanted whole variables")
            tensors[name] = _v1_tensor(name, _fields(_first(stored, 3, b"")), *wanted[name], path)
    except (IndexError, struct.error, UnicodeDecodeError, ValueError) as error:
        if isinstance(error, CheckpointError):
            raise
        raise CheckpointError(f"{path} is damaged: a message cannot be read ({error})") from error
    missing = sorted(set(wanted) - set(tensors))
    if missing:
        raise CheckpointError(f"{path} is damaged: it lacks {len(missing)} of the tensors of its list "
                              f"(first: {missing[0]})")  # fmt: skip
    return {name: tensors[name] for name in sorted(tensors)}


def _v1_tensor(name: str, fields: dict[int, list], number: int, shape: tuple[int, ...], path: Path) -> np.ndarray:
    dtype, count = _dtype(number, name, path), int(np.prod(shape, dtype=np.int64))
    if 4 in fields:  # raw bytes
        values = np.frombuffer(bytes(fields[4][0]), dtype)
    else:
        field, code = V1_VALUE_FIELDS.get(number, (0, ""))
        values = _packed(fields.get(field, []), code, dtype)
    if values.size == 1:
        values = np.repeat(values, count)  # a constant tensor is stored once
    if values.size != count:
        raise CheckpointError(f"{path} is damaged: {name} has {values.size} values, its shape {shape} wants {count}")
    return values.reshape(shape).copy()


def _packed(parts: list, code: str, dtype: np.dtype) -> np.ndarray:
    """Repeated numbers of a protobuf message, packed into one field or each in its own."""
    if code != "varint":
        return np.frombuffer(b"".join(map(bytes, parts)), f"<{code}").astype(dtype)
    values: list[int] = []
    for part in parts:
        if isinstance(part, int):
            values.append(part)
            continue
        position = 0
        while position < len(part):
            value, position = _varint(part, position)
            values.append(value)
    return np.array(values, np.uint64).astype(np.int64).astype(dtype)  # negative numbers are stored as 64 bits
