"""A teacher's maps follow their images through cropping and flipping; an image without one is not taught."""

import numpy as np
import pytest
import torch
from PIL import Image

from ssnm.coseg.groups import GroupDataset, collate_groups
from ssnm.coseg.pool import ImagePool
from ssnm.coseg.sampler import GroupDraw, Paste, Slot
from ssnm.data.augment import Augmentation
from ssnm.data.folders import ProcessedSource
from ssnm.data.teacher import Taught, TeacherMaps
from ssnm.errors import DataError, MissingFileError

SIZE = (32, 32)


@pytest.fixture
def folder(tmp_path):
    """Three cats, white squares on black; a map for all but the last, equal to the image."""
    rng, maps = np.random.default_rng(0), []
    for part in ("image", "groundtruth"):
        (tmp_path / "set" / part / "cat").mkdir(parents=True)
    for k in range(3):
        picture = np.zeros((32, 32), dtype=np.uint8)
        top, left = rng.integers(4, 14, 2)
        picture[top : top + 12, left : left + 12] = 255
        for part in ("image", "groundtruth"):
            Image.fromarray(picture).save(tmp_path / "set" / part / "cat" / f"cat{k}.png")
        maps.append(picture)
    np.savez(tmp_path / "teacher.npz", names=np.array(["set/cat0", "set/cat1"]), maps=np.stack(maps[:2]))
    return tmp_path


def dataset(folder, augmentation=Augmentation(flip=0.0)) -> GroupDataset:
    source = Taught(ProcessedSource(folder / "set"), TeacherMaps(folder / "teacher.npz"))
    return GroupDataset(ImagePool([source]), SIZE, augmentation)


def test_an_image_is_found_by_the_folder_it_lies_in_and_its_stem(folder):
    maps, items = TeacherMaps(folder / "teacher.npz"), ProcessedSource(folder / "set").items
    assert [maps.of(item, SIZE) is not None for item in items] == [True, True, False]
    assert maps.of(items[0], (16, 8)).shape == (16, 8) and maps.of(items[2], SIZE) is None


def test_the_map_is_cropped_and_flipped_with_its_image(folder):
    group = dataset(folder, Augmentation(flip=0.5, crop=0.6))[GroupDraw("cat", tuple(Slot(0, s) for s in range(8)))]
    apart = (group.images[:, 0].float() - group.teacher.float()).abs().mean((1, 2))
    assert bool((apart < 12).all()) and group.images[:, 0].float().std(0).max() > 20  # the crops differ


def test_a_batch_says_which_images_are_taught(folder):
    batch = collate_groups([dataset(folder)[GroupDraw("cat", tuple(Slot(i, 0) for i in range(3)))]]).to("cpu")
    assert batch.taught.tolist() == [[True, True, False]] and batch.teacher.shape == (1, 3, *SIZE)
    assert batch.teacher.max() == 1 and torch.equal(batch.teacher[0, 0] > 0.5, batch.masks[0, 0] > 0.5)


def test_an_image_into_which_something_was_pasted_is_not_taught(folder):
    slots = (Slot(0, 0, Paste(1, "cat", 0)), Slot(1, 1))
    assert dataset(folder)[GroupDraw("cat", slots)].taught.tolist() == [False, True]


def test_a_file_that_is_no_file_of_maps_is_refused(tmp_path):
    with pytest.raises(MissingFileError, match="no such file of teacher maps"):
        TeacherMaps(tmp_path / "none.npz")
    np.savez(tmp_path / "other.npz", names=np.array(["a"]), maps=np.zeros((2, 4, 4), dtype=np.uint8))
    with pytest.raises(DataError, match="names \\(n\\) and maps"):
        TeacherMaps(tmp_path / "other.npz")
    (tmp_path / "text.npz").write_text("no archive")
    with pytest.raises(DataError, match="an .npz with the arrays"):
        TeacherMaps(tmp_path / "text.npz")
