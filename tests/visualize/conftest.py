"""Results folders as the test command writes them, on procedural images; and a browser."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFilter

from ssnm.commands.score import write_results
from ssnm.data.procedural import write_procedural
from ssnm.files.masks import read_binary
from ssnm.metrics import score_folder

GROUP_SIZE = 4
IMAGES_PER_CLASS = 6


def write_run(root: Path, out: Path, shifts, spatial: bool = True) -> Path:
    """A results folder whose image k of each class is its truth moved by shifts[k] pixels: J falls with the shift."""
    groups, spatial_masks = [], {}
    for folder in sorted((root / "image").iterdir()):
        images = []
        for file, shift in zip(sorted(folder.iterdir()), shifts, strict=True):
            truth = root / "groundtruth" / folder.name / f"{file.stem}.png"
            moved = np.roll(read_binary(truth).object, shift, axis=1)
            (out / folder.name).mkdir(parents=True, exist_ok=True)
            soft = Image.fromarray(moved.astype(np.uint8) * 255).filter(ImageFilter.GaussianBlur(1))
            soft.save(out / folder.name / f"{file.stem}.png")
            grey = Image.fromarray(moved.astype(np.float32)).resize((7, 7), Image.Resampling.BILINEAR)
            spatial_masks[f"{folder.name}/{file.stem}"] = (np.asarray(grey) - 0.3).astype(np.float16)
            paths = (str(p.relative_to(root)) for p in (file, truth))
            images.append(dict(zip(("name", "image", "truth"), (file.stem, *paths), strict=True)))
        for start in range(0, len(images), GROUP_SIZE):
            new = images[start : start + GROUP_SIZE]
            again = images[: GROUP_SIZE - len(new)]
            groups.append({"category": folder.name, "new": len(new), "images": new + again})
    record = {
        "dataset": "folder",
        "data_root": str(root),
        "checkpoint": "best.pt",
        "group_size": GROUP_SIZE,
        "groups": groups,
    }
    (out / "run.json").write_text(json.dumps(record))
    if spatial:
        np.savez_compressed(out / "spatial_masks.npz", **spatial_masks)
    write_results(score_folder(out, root, "release"), out)
    return out


@pytest.fixture(scope="session")
def procedural_root(tmp_path_factory) -> Path:
    """18 images of 3 kinds, whose names hold blanks."""
    kinds = ("striped disc", "rayed star", "ringed heart")
    return write_procedural(tmp_path_factory.mktemp("data") / "set", kinds, IMAGES_PER_CLASS, (72, 96))


@pytest.fixture(scope="session")
def rising_run(procedural_root, tmp_path_factory) -> Path:
    """The first image of each class is perfect, the next ones worse and worse."""
    return write_run(procedural_root, tmp_path_factory.mktemp("runs") / "first", [0, 2, 4, 6, 9, 48])


@pytest.fixture(scope="session")
def other_run(procedural_root, tmp_path_factory) -> Path:
    """Like rising_run, but bad where that is best."""
    return write_run(procedural_root, tmp_path_factory.mktemp("runs") / "second", [48, 2, 4, 6, 9, 9])


@pytest.fixture
def copied_run(rising_run, tmp_path) -> Path:
    """A copy of rising_run that a test may damage."""
    return Path(shutil.copytree(rising_run, tmp_path / "run"))
