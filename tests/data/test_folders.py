"""Training sources read from folders: VOC's layout and the processed layout."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from ssnm.config.sources import ProceduralSourceConfig, VocSourceConfig
from ssnm.coseg.build import build_file_source
from ssnm.coseg.config import DataConfig
from ssnm.data.folders import ProcessedSource, VocSource
from ssnm.errors import DataError, MissingFileError
from ssnm.files.masks import read_ids

AEROPLANE, CAR, PERSON = 1, 7, 15
SSNM_DATA = os.environ.get("SSNM_DATA")


def write_palette(path: Path, labels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(labels.astype(np.uint8), mode="P")
    image.putpalette([0, 0, 0, *((i * 37) % 256 for i in range(3, 768))])
    image.save(path)


def write_image(path: Path, size: tuple[int, int] = (20, 30), mode: str = "RGB") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    shape = size if mode == "L" else (*size, 3)
    Image.fromarray(np.random.default_rng(0).integers(0, 255, shape, dtype=np.uint8)).save(path)


def voc_root(root: Path, masks: dict[str, np.ndarray]) -> Path:
    for name, labels in masks.items():
        write_image(root / "JPEGImages" / f"{name}.jpg", labels.shape)
        write_palette(root / "SegmentationClass" / f"{name}.png", labels)
    return root


def blocks(**boxes: tuple[int, int, int, int]) -> np.ndarray:
    """A 20 x 30 label map; keys like `k7` are the index, values (top, bottom, left, right)."""
    labels = np.zeros((20, 30), np.uint8)
    for key, (top, bottom, left, right) in boxes.items():
        labels[top:bottom, left:right] = int(key[1:])
    return labels


def test_a_voc_item_names_its_categories_in_canonical_form_and_palette_order(tmp_path):
    source = VocSource(voc_root(tmp_path, {"a": blocks(k15=(0, 5, 0, 5), k1=(10, 15, 0, 9))}))
    assert source.items[0].categories == ("airplane", "person")
    assert source.categories == ("airplane", "person")


def test_voc_masks_at_native_size_are_the_palette_indices(tmp_path):
    labels = blocks(k15=(0, 5, 0, 5), k1=(10, 15, 0, 9), k255=(5, 7, 0, 5))
    sample = VocSource(voc_root(tmp_path, {"a": labels})).load(0, (20, 30))
    assert sample.masks.dtype == sample.void.dtype == torch.bool and sample.image.dtype == torch.uint8
    assert np.array_equal(sample.masks[0], labels == AEROPLANE)
    assert np.array_equal(sample.masks[1], labels == PERSON)
    assert np.array_equal(sample.void, labels == 255)


def test_void_never_covers_a_category_mask_at_any_size(tmp_path):
    labels = np.random.default_rng(1).choice([0, CAR, CAR, PERSON, 255], (20, 30)).astype(np.uint8)
    source = VocSource(voc_root(tmp_path, {"a": labels}))
    for size in ((7, 11), (20, 30), (33, 64)):
        sample = source.load(0, size)
        assert sample.image.shape == (3, *size) and sample.masks.shape == (2, *size) and sample.void.any()
        assert not (sample.void & sample.masks.any(dim=0)).any()


def test_a_category_too_small_to_be_seen_is_not_a_co_category(tmp_path):
    labels = blocks(k7=(0, 1, 0, 2), k15=(10, 15, 0, 9))  # car: 2 of 600 pixels
    root = voc_root(tmp_path, {"a": labels})
    assert VocSource(root).items[0].categories == ("person",)
    assert VocSource(root, min_area_share=0.0).items[0].categories == ("car", "person")
    assert VocSource(root).load(0, (20, 30)).masks.shape[0] == 1


def test_an_image_without_a_counting_category_is_left_out(tmp_path):
    root = voc_root(tmp_path, {"seen": blocks(k7=(0, 9, 0, 9)), "empty": blocks(), "void": blocks(k255=(0, 9, 0, 9))})
    assert [i.name for i in VocSource(root).items] == ["seen"]


def test_an_image_list_is_taken_by_name_by_path_and_with_folders_in_its_lines(tmp_path):
    car = blocks(k7=(0, 9, 0, 9))
    root = voc_root(tmp_path, {"2007_2": car, "2007_10": car, "2007_3": car})
    lists = root / "ImageSets" / "Segmentation"
    lists.mkdir(parents=True)
    (lists / "train.txt").write_text("2007_10\n2007_2\n")
    (root / "sbd.txt").write_text("/JPEGImages/2007_3.jpg /SegmentationClassAug/2007_3.png\n")
    assert [i.name for i in VocSource(root, "train").items] == ["2007_10", "2007_2"]
    assert [i.name for i in VocSource(root, root / "sbd.txt").items] == ["2007_3"]
    assert [i.name for i in VocSource(root).items] == ["2007_2", "2007_3", "2007_10"]


def test_a_list_of_the_set_is_meant_where_the_current_folder_has_a_file_of_its_name(tmp_path, monkeypatch):
    car = blocks(k7=(0, 9, 0, 9))
    root = voc_root(tmp_path / "root", {"a": car, "b": car})
    (root / "ImageSets" / "Segmentation").mkdir(parents=True)
    (root / "ImageSets" / "Segmentation" / "train.txt").write_text("a\n")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "train").write_text("b\n")
    assert [i.name for i in VocSource(root, "train").items] == ["a"]


def test_other_class_names_can_be_given(tmp_path):
    source = VocSource(voc_root(tmp_path, {"a": blocks(k2=(0, 9, 0, 9))}), class_names=("leaf", "Red_Flower"))
    assert source.categories == ("red flower",)


def test_the_config_hands_on_name_and_class_names(tmp_path):
    root = voc_root(tmp_path, {"a": blocks(k2=(0, 9, 0, 9))})
    config = VocSourceConfig(root=str(root), class_names=("leaf", "flower"), name="plants")
    source = build_file_source(config, DataConfig())
    assert (source.name, source.categories) == ("plants", ("flower",))
    assert build_file_source(VocSourceConfig(root=str(root)), DataConfig()).categories == ("bicycle",)
    assert build_file_source(ProceduralSourceConfig(num_images=1, name="drawn"), DataConfig()).name == "drawn"


@pytest.mark.parametrize("part", ["JPEGImages/a.jpg", "SegmentationClass/a.png"])
def test_a_listed_image_without_its_files_is_named(tmp_path, part):
    root = voc_root(tmp_path, {"a": blocks(k7=(0, 9, 0, 9)), "b": blocks(k7=(0, 9, 0, 9))})
    (root / "list.txt").write_text("a\nb\n")
    (root / part).unlink()
    with pytest.raises(MissingFileError, match="missing 1 of 2 .*: a"):
        VocSource(root, root / "list.txt")


def test_an_index_without_a_class_name_is_an_error_that_names_the_mask(tmp_path):
    with pytest.raises(DataError, match=r"a\.png: index 21 has no class name"):
        VocSource(voc_root(tmp_path, {"a": blocks(k21=(0, 9, 0, 9))}))


def test_a_mask_of_another_size_than_its_image_is_an_error_that_names_both(tmp_path):
    root = voc_root(tmp_path, {"a": blocks(k7=(0, 9, 0, 9))})
    write_image(root / "JPEGImages" / "a.jpg", (10, 12))
    with pytest.raises(DataError, match=r"a\.png: mask of 30x20 for an image of 12x10 .*a\.jpg"):
        VocSource(root).load(0, (8, 8))


def test_unknown_lists_empty_lists_and_missing_folders_are_named(tmp_path):
    with pytest.raises(MissingFileError, match="no such folder"):
        VocSource(tmp_path / "nowhere")
    root = voc_root(tmp_path, {"a": blocks(k7=(0, 9, 0, 9))})
    with pytest.raises(MissingFileError, match="trian"):
        VocSource(root, "trian")
    (root / "none.txt").write_text("\n")
    with pytest.raises(DataError, match="empty"):
        VocSource(root, root / "none.txt")
    with pytest.raises(DataError, match="min_area_share"):
        VocSource(root, min_area_share=1.5)


def processed_root(root: Path, masks: dict[str, np.ndarray], mode: str = "RGB") -> Path:
    for name, mask in masks.items():
        write_image(root / "image" / f"{name}.jpg", mask.shape, mode)
        path = root / "groundtruth" / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(mask.astype(np.uint8) * 255).save(path)
    return root


def test_the_same_image_may_stand_in_two_classes_with_two_masks(tmp_path):
    left, right = blocks(k1=(0, 20, 0, 9)) > 0, blocks(k1=(0, 20, 20, 30)) > 0
    source = ProcessedSource(processed_root(tmp_path, {"aeroplane/img": left, "person/img": right}))
    assert [(i.name, i.categories) for i in source.items] == [("aeroplane/img", ("airplane", "person"))]
    assert source.categories == ("airplane", "person")
    assert np.array_equal(source.load(0, (20, 30)).masks, np.stack([left, right]))


def test_different_images_of_one_name_stay_apart(tmp_path):
    left, right = blocks(k1=(0, 20, 0, 9)) > 0, blocks(k1=(0, 20, 20, 30)) > 0
    root = processed_root(tmp_path, {"aeroplane/img": left, "person/img": right})
    path = root / "image" / "person" / "img.jpg"
    data = bytearray(path.read_bytes())
    data[-3] ^= 1  # the same length
    path.write_bytes(data)
    source = ProcessedSource(root)
    assert [(i.name, i.categories) for i in source.items] == [
        ("aeroplane/img", ("airplane",)), ("person/img", ("person",))
    ]
    assert np.array_equal(source.load(1, (20, 30)).masks[0], right)


def test_one_image_in_two_folders_of_one_category_stays_two_items(tmp_path):
    mask = blocks(k1=(0, 20, 0, 9)) > 0
    source = ProcessedSource(processed_root(tmp_path, {"aeroplane/img": mask, "airplane/img": mask}))
    assert [i.categories for i in source.items] == [("airplane",), ("airplane",)]


def test_two_masks_of_one_image_must_have_one_size(tmp_path):
    root = processed_root(tmp_path, {"cat/img": blocks() > 0, "dog/img": blocks() > 0})
    Image.new("L", (7, 5)).save(root / "groundtruth" / "dog" / "img.png")
    with pytest.raises(DataError, match="dog/img.png: mask of another size"):
        ProcessedSource(root).load(0, (20, 30))


def test_a_grey_image_says_so_and_fills_three_channels(tmp_path):
    source = ProcessedSource(processed_root(tmp_path, {"car/a": blocks(k1=(0, 5, 0, 5)) > 0}, mode="L"))
    sample = source.load(0, (10, 10))
    assert sample.grey and torch.equal(sample.image[0], sample.image[2])


def test_255_is_void_in_a_palette_mask_and_object_in_an_ordinary_one(tmp_path):
    root = processed_root(tmp_path, {"car/a": blocks(k1=(0, 9, 0, 9)) > 0})
    assert not ProcessedSource(root).load(0, (20, 30)).void.any()
    labels = blocks(k1=(0, 9, 0, 9), k255=(9, 12, 0, 9))
    write_palette(root / "groundtruth" / "car" / "a.png", labels)
    sample = ProcessedSource(root).load(0, (20, 30))
    assert np.array_equal(sample.void, labels == 255) and np.array_equal(sample.masks[0], labels == 1)


def test_a_processed_set_needs_class_folders_and_ground_truth(tmp_path):
    write_image(tmp_path / "image" / "a.jpg")
    with pytest.raises(MissingFileError, match="groundtruth/"):
        ProcessedSource(tmp_path)
    write_image(tmp_path / "groundtruth" / "a.png")
    with pytest.raises(DataError, match="no class folder"):
        ProcessedSource(tmp_path)


@pytest.mark.real_data
@pytest.mark.skipif(not SSNM_DATA, reason="SSNM_DATA is not set")
def test_voc_train_holds_what_its_readme_says():
    source = VocSource(Path(SSNM_DATA) / "VOC_train", "train")
    assert len(source.items) == 3306 - 19 and len(source.categories) == 18  # 19 show only specks of objects
    dogs = sum("dog" in i.categories for i in source.items)
    assert 1100 < dogs < 1300
    sample = source.load(0, (224, 224))
    assert sample.masks.shape[0] == len(source.items[0].categories) and sample.masks.any(dim=(1, 2)).all()


@pytest.mark.real_data
@pytest.mark.skipif(not SSNM_DATA, reason="SSNM_DATA is not set")
def test_resized_voc_masks_keep_the_share_of_the_image_that_the_object_covers():
    source = VocSource(Path(SSNM_DATA) / "VOC_train", "voc_seg_original")
    for index in range(0, 200, 20):
        labels = read_ids(Path(SSNM_DATA) / "VOC_train" / "SegmentationClass" / f"{source.items[index].name}.png", True)
        masks = source.load(index, (224, 224)).masks
        share = (labels[labels != 255].astype(bool)).sum() / labels.size
        assert abs(masks.any(dim=0).float().mean().item() - share) < 0.02


def test_a_class_that_covers_exactly_the_least_share_counts(tmp_path):
    labels = np.zeros((10, 20))
    labels[:2, :5] = CAR  # 10 of 200 pixels
    labels[5, :9] = PERSON  # 9 of them
    source = VocSource(voc_root(tmp_path, {"a": labels}), min_area_share=0.05)
    assert source.items[0].categories == ("car",)
