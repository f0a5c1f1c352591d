"""Photographs that a decoder stumbles over: upright, or one line that names the file, whoever reads them."""

import io
import struct
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ssnm.cli import main
from ssnm.data.folders import ProcessedSource
from ssnm.errors import DataError
from ssnm.instances.photos import read_photos
from ssnm.video.frames import read_frames
from ssnm.video.tracks import StillTrack

SIZE = (60, 40)  # height, width, upright


def turned_jpeg(pixels: np.ndarray) -> bytes:
    """A JPEG with orientation 6 and a resolution of -1/0 as a signed rational: Pillow cannot write that block again."""
    buffer = io.BytesIO()
    Image.fromarray(np.rot90(pixels)).save(buffer, "JPEG")
    entries = struct.pack("<HHIHH", 0x112, 3, 1, 6, 0) + struct.pack("<HHII", 0x11A, 10, 1, 38) + b"\0\0\0\0"
    block = b"Exif\0\0II*\0" + struct.pack("<IH", 8, 2) + entries + struct.pack("<ii", -1, 0)
    stream = buffer.getvalue()
    return stream[:2] + b"\xff\xe1" + struct.pack(">H", len(block) + 2) + block + stream[2:]


@pytest.fixture
def root(tmp_path) -> Path:
    """ROOT/image/cat/{0,1,2}.jpg, all turned by such a block, with their truths as they are seen upright."""
    rng = np.random.default_rng(0)
    for folder in ("image/cat", "groundtruth/cat"):
        (tmp_path / folder).mkdir(parents=True)
    mask = np.zeros(SIZE, np.uint8)
    mask[10:40, 5:30] = 255
    for number in range(3):
        pixels = rng.integers(0, 255, (*SIZE, 3), np.uint8)
        (tmp_path / f"image/cat/{number}.jpg").write_bytes(turned_jpeg(pixels))
        Image.fromarray(mask).save(tmp_path / f"groundtruth/cat/{number}.png")
    (tmp_path / "tiny.yaml").write_text(
        "model: {backbone: {name: mobilenetv2_035, weights: none}}\n"
        f"data: {{size: 32, workers: 0, sources: [{{type: processed, name: set, root: {tmp_path}}}]}}\n"
    )
    return tmp_path


def commands(root: Path, checkpoint: Path) -> dict[str, list[str]]:
    photos, out, model = str(root / "image" / "cat"), str(root / "out"), str(checkpoint)
    return {
        "segment": ["segment", photos, "--out", out, "--checkpoint", model],
        "label": ["label", photos, "--format", "masks", "--out", out, "--checkpoint", model],
        "test": ["test", model, "--dataset", "folder", "--data", str(root), "--out", out],
        "check": ["datasets", "check", "folder", "--data", str(root)],
        "cache": ["datasets", "cache", str(root / "tiny.yaml"), "--out", out],
        "instances": ["instances", f"{photos}/1.jpg", "--out", out],
    }


@pytest.mark.parametrize("command", ["segment", "label", "test", "check", "cache"])
def test_commands_use_a_photograph_whose_exif_cannot_be_written_again_upright(command, root, checkpoint, capsys):
    assert main(commands(root, checkpoint)[command]) == 0
    said = capsys.readouterr()
    assert "Traceback" not in said.err and "cannot" not in said.out + said.err
    written = [p for p in (root / "out").rglob("*.png") if "overlays" not in str(p)]
    assert all(Image.open(path).size == SIZE[::-1] for path in written)
    assert len(written) == {"segment": 3, "label": len(written), "test": 3}.get(command, 0)


def test_training_videos_and_instances_read_it_upright(root):
    photo = root / "image" / "cat" / "0.jpg"
    mask = np.zeros(SIZE, bool)
    assert ProcessedSource(root).load(0, (60, 40)).masks[0, 20, 10]
    assert StillTrack("a", "a", photo, lambda: mask).image(0).shape[:2] == SIZE
    assert [frame.size for frame in read_frames(photo.parent)] == [SIZE] * 3
    assert [one.size for one in read_photos([photo])] == [SIZE]


@pytest.fixture
def stumbling(monkeypatch):
    """A third-party decoder that raises a TypeError on 1.jpg alone."""
    real = Image.open

    def open_(file, *args, **options):
        if Path(str(file)).name == "1.jpg":
            raise TypeError("unsupported operand type(s) for /: 'tuple' and 'int'")
        return real(file, *args, **options)

    monkeypatch.setattr(Image, "open", open_)


@pytest.mark.parametrize("command, status", [("segment", 0), ("label", 0), ("test", 2), ("check", 1), ("cache", 0),
                                             ("instances", 2)])  # fmt: skip
def test_a_decoder_that_fails_in_its_own_way_is_one_line_in_every_command(
    command, status, root, checkpoint, stumbling, capsys
):
    assert main(commands(root, checkpoint)[command]) == status
    said = capsys.readouterr()
    lines = [line for line in (said.out + said.err).splitlines() if "1.jpg" in line and "TypeError" in line]
    assert len(lines) == 1 and "Traceback" not in said.err
    begins = {"check": "wrong: ", "cache": "warning: ", "label": "left out: ", "segment": "left out: "}
    assert lines[0].startswith(begins.get(command, "error: "))


def test_a_decoder_that_fails_in_its_own_way_is_a_bad_image_of_training_and_of_videos(root, stumbling):
    for read in (lambda: ProcessedSource(root).load(1, (32, 32)), lambda: list(read_frames(root / "image" / "cat"))):
        with pytest.raises(DataError, match="1.jpg: cannot be decoded as an image .TypeError"):
            read()
