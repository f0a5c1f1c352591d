"""The authors' files: two real TensorFlow checkpoints read bit for bit, key tables, refusals by name."""

import hashlib
import json
import shutil
import zlib

import numpy as np
import pytest
import torch

from ssnm.cli import main
from ssnm.errors import CheckpointError, MissingFileError
from ssnm.video.convert import Variant, from_tensorflow, key_table, read_checkpoint
from ssnm.video.crc32c import crc32c, masked_crc32c

from .osmn_oracle import GOLDEN, value

LISTED = json.loads((GOLDEN / "checkpoint.json").read_text())  # name -> shape, type, start of the SHA-256
OTHERS = {"beta1_power": np.float32(0.9), "beta2_power": np.float32(0.999), "global_step": np.int32(300000)}
PREFIX = "osmn.ckpt-300000"


def stored(name):
    """What was written under a name: stand-in values; slots of the optimiser are 0."""
    shape = tuple(LISTED[name][0])
    if name in OTHERS:
        return np.asarray(OTHERS[name])
    return np.zeros(shape, np.float32) if name.endswith(("/Adam", "/Adam_1")) else value(name, shape)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The real V2 checkpoint (its data rebuilt from the stand-ins), the real V1 file, and `checkpoint`."""
    folder = tmp_path_factory.mktemp("checkpoints")
    shutil.copy(GOLDEN / f"{PREFIX}.index", folder)
    data = b"".join(stored(name).tobytes() for name in sorted(LISTED))
    (folder / f"{PREFIX}.data-00000-of-00001").write_bytes(data)
    (folder / "checkpoint").write_text(f'model_checkpoint_path: "/elsewhere/{PREFIX}"\n')
    (folder / "v1.ckpt").write_bytes(zlib.decompress((GOLDEN / "v1.ckpt.z").read_bytes()))
    return folder


def assert_is_the_one(arrays, names):
    assert sorted(arrays) == sorted(names)
    for name, array in arrays.items():
        shape, kind, digest = LISTED[name]
        assert (list(array.shape), str(array.dtype)) == (shape, kind), name
        assert hashlib.sha256(array.tobytes()).hexdigest().startswith(digest), name


@pytest.mark.parametrize("name", ["", PREFIX, f"{PREFIX}.index", f"{PREFIX}.data-00000-of-00001"])
def test_a_v2_checkpoint_is_read_bit_for_bit_by_any_of_its_names(folder, name):
    assert_is_the_one(read_checkpoint(folder / name), LISTED)


def test_a_v1_checkpoint_is_read_bit_for_bit(folder):
    arrays = read_checkpoint(folder / "v1.ckpt")
    assert len(arrays) == 32
    assert_is_the_one(arrays, arrays)


def test_an_archive_of_arrays_is_read_by_its_keys(tmp_path):
    np.savez(tmp_path / "a.npz", **{"osmn/seg/x": np.arange(3)})
    assert read_checkpoint(tmp_path / "a.npz")["osmn/seg/x"].tolist() == [0, 1, 2]


def broken(folder, tmp_path, file, change):
    for path in folder.iterdir():
        shutil.copy(path, tmp_path)
    (tmp_path / file).write_bytes(change((folder / file).read_bytes()))
    return tmp_path / (file if file == "v1.ckpt" else PREFIX)


def flipped(content):
    return content[:700] + bytes([content[700] ^ 1]) + content[701:]


@pytest.mark.parametrize("change, words", [(flipped, "checksum"), (lambda b: b[: len(b) // 2], "cut off"),
                                           (lambda b: b"", "cut off")])  # fmt: skip
@pytest.mark.parametrize("file", [f"{PREFIX}.index", f"{PREFIX}.data-00000-of-00001", "v1.ckpt"])
def test_damage_is_one_line_that_names_the_file(folder, tmp_path, file, change, words):
    with pytest.raises(CheckpointError, match=words) as error:
        read_checkpoint(broken(folder, tmp_path, file, change))
    assert file in str(error.value) and "\n" not in str(error.value)


def test_a_missing_file_of_data_is_said(folder, tmp_path):
    shutil.copy(folder / f"{PREFIX}.index", tmp_path)
    with pytest.raises(MissingFileError, match="data-00000"):
        read_checkpoint(tmp_path / PREFIX)


@pytest.mark.parametrize("name, words", [("nothing", "no such"), ("empty", "checkpoint"), ("a.npz", "no such")])
def test_what_is_not_there_is_said(tmp_path, name, words):
    (tmp_path / "empty").mkdir()
    with pytest.raises(MissingFileError, match=words):
        read_checkpoint(tmp_path / name)


def test_another_file_is_no_checkpoint(tmp_path):
    (tmp_path / "photo.jpg").write_bytes(b"\xff\xd8" * 100)
    with pytest.raises(CheckpointError, match="no TensorFlow checkpoint"):
        read_checkpoint(tmp_path / "photo.jpg")
    (tmp_path / "x.npz").write_bytes(b"PK nonsense")
    with pytest.raises(CheckpointError, match="npz"):
        read_checkpoint(tmp_path / "x.npz")


def test_checksum_is_crc_32c_of_any_length():
    assert crc32c(b"123456789") == 0xE3069283 and crc32c(bytes(32)) == 0x8A9136AA and crc32c(b"") == 0
    data, register = np.random.default_rng(0).integers(0, 256, 70_001, dtype=np.uint8), 0xFFFFFFFF
    table = [0] * 256
    for byte in range(256):  # the slow way, one byte after the other
        entry = byte
        for _ in range(8):
            entry = entry >> 1 ^ (0x82F63B78 if entry & 1 else 0)
        table[byte] = entry
    for byte in data.tolist():
        register = register >> 8 ^ table[(register ^ byte) & 0xFF]
    assert crc32c(data) == register ^ 0xFFFFFFFF
    assert masked_crc32c(b"123456789") == ((0xE3069283 >> 15 | 0xE3069283 << 17) + 0xA282EAD8) & 0xFFFFFFFF


# --- Keys ------------------------------------------------------------------------------------------------------

VARIANTS = {"osvos": Variant(True, True, False), "early": Variant(True, True, True),
            "no_visual": Variant(False, True, False), "no_spatial": Variant(True, False, False)}  # fmt: skip
COUNTS = {"osvos": 83, "early": 93, "no_visual": 51, "no_spatial": 68}


@pytest.mark.parametrize("name", VARIANTS)
def test_every_variable_of_a_variant_has_its_key(name):
    table = key_table(VARIANTS[name])
    assert len(table) == COUNTS[name] and len({key for key, _ in table.values()}) == len(table)
    assert VARIANTS[name].name == name


def test_the_names_are_those_of_a_real_training():
    names = sorted([f"osmn/{name}" for name in key_table(VARIANTS["osvos"])]
                   + [f"osmn/seg/score-multi{k}-up/weights" for k in (2, 3, 4, 5)])  # fmt: skip
    assert len(names) == 87 and zlib.crc32("\n".join(names).encode()) == 2073602707


def nothing(variant):
    """Variables of the right shapes that take no memory."""
    return {f"osmn/{name}": np.broadcast_to(np.float32(0), shape) for name, (_, shape) in key_table(variant).items()}


SMALL = Variant(False, True, False)  # 15 million weights are enough


def test_slots_step_and_kernels_are_left_out_and_axes_are_turned():
    arrays = nothing(SMALL) | {"osmn/seg/upscore-fuse/weights/Adam": np.zeros(3), "global_step": np.int32(7),
                               "osmn/seg/score-multi2-up/weights": np.zeros((4, 4, 16, 16), np.float32)}  # fmt: skip
    arrays["osmn/seg/conv1/conv1_1/weights"] = np.arange(3 * 3 * 3 * 64, dtype=np.float32).reshape(3, 3, 3, 64)
    variant, weights = from_tensorflow(arrays, "file")
    assert variant == SMALL and "fuse.weight" in weights and len(weights) == 51 + 3
    assert weights["trunk.features.0.weight"][5, 2, 0, 1] == arrays["osmn/seg/conv1/conv1_1/weights"][0, 1, 2, 5]
    assert weights["spatial.norms.2.num_batches_tracked"] == torch.tensor(0)


@pytest.mark.parametrize("change, words", [
    (lambda a: a.pop("osmn/seg/conv4/conv4_2/biases"), "1 missing .*osmn/seg/conv4/conv4_2/biases"),
    (lambda a: a.update({"osmn/seg/other/weights": np.zeros(3)}), "1 unexpected .*osmn/seg/other/weights"),
    (lambda a: a.update({"osmn/seg/upscore-fuse/biases": np.zeros(2, np.float32)}), "another shape .*fuse/biases"),
    (lambda a: a.update({"osmn/seg/upscore-fuse/biases": np.full(1, np.nan, np.float32)}), "finite.*fuse/biases"),
    (lambda a: a.update({"osmn/seg/fc6_1/weights": np.zeros(3)}), "deeplab or masktrack"),
    (lambda a: a.update({"osmn/Conv2d_out_1/weights": np.zeros(3)}), "lite"),
    (lambda a: [a.pop(k) for k in list(a) if "modulator" in k], "no modulator"),
])  # fmt: skip
def test_what_does_not_fit_is_refused_by_name(change, words):
    arrays = nothing(SMALL)
    change(arrays)
    with pytest.raises(CheckpointError, match=words) as error:
        from_tensorflow(arrays, "file")
    assert str(error.value).startswith("file") and "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["osvos", "early", "no_spatial"])
def test_the_variant_is_found_in_the_keys(name):
    found = nothing(VARIANTS[name])
    found.pop("osmn/seg/upscore-fuse/biases")  # stops before half a gigabyte is copied
    with pytest.raises(CheckpointError, match=f"variant {name}: 1 missing"):
        from_tensorflow(found, "file")


def test_the_command_refuses_the_toy_checkpoint_by_its_shapes(folder, tmp_path, capsys):
    assert main(["convert", "osmn", str(folder / PREFIX), str(tmp_path / "m.safetensors")]) == 2
    error = capsys.readouterr().err.strip()
    assert "osvos" in error and "of another shape" in error and "\n" not in error
    assert not (tmp_path / "m.safetensors").exists()
