"""COCO-SEG as a training source: what a sample holds, and which files are refused. And the resizing it uses."""

import json
import os
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from ssnm.data.coco import CocoSegSource
from ssnm.data.coco_index import write_index
from ssnm.data.coco_seg import build_index
from ssnm.data.resizing import resize_image, resize_mask, resize_nearest
from ssnm.errors import DataError, MissingFileError


def write_index_of_boxes(folder, sizes, boxes):
    """An index.json in `folder`: sizes {image: (width, height)}; boxes (image, category, x0, y0, x1, y1)."""
    images = [{"id": i, "file_name": f"{i}.png", "width": w, "height": h} for i, (w, h) in sizes.items()]
    annotations = [
        {"image_id": i, "category_id": c, "area": (x1 - x0) * (y1 - y0),
         "segmentation": [[x0, y0, x1, y0, x1, y1, x0, y1]]}
        for i, c, x0, y0, x1, y1 in boxes
    ]
    categories = [{"id": 1, "name": "person"}, {"id": 3, "name": "car"}]
    path = folder / "instances.json"
    path.write_text(json.dumps({"images": images, "annotations": annotations, "categories": categories}))
    write_index(build_index(path, min_area=30, min_images=1), folder / "index.json")


@pytest.fixture
def small_set(tmp_path):
    """1.png: a person in its left half. 2.png, grey: a person in its upper half, a car in its right half."""
    boxes = [(1, 1, 0, 0, 50, 80), (2, 1, 0, 0, 100, 40), (2, 3, 50, 0, 100, 80)]
    write_index_of_boxes(tmp_path, {1: (100, 80), 2: (100, 80)}, boxes)
    (tmp_path / "images").mkdir()
    colour = np.zeros((80, 100, 3), dtype=np.uint8)
    colour[:, 50:] = (200, 100, 50)
    Image.fromarray(colour).save(tmp_path / "images" / "1.png")
    Image.fromarray(colour[:, :, 0]).save(tmp_path / "images" / "2.png")
    return tmp_path


def test_a_sample_holds_image_and_masks_at_training_size(small_set):
    source = CocoSegSource(small_set / "index.json", small_set / "images")
    assert source.name == "coco" and source.categories == ("person", "car")
    assert [item.categories for item in source.items] == [("person",), ("person", "car")]
    assert source.items[1].name == "2.png" and source.items[1].image == small_set / "images" / "2.png"
    first, second = source.load(0, (40, 50)), source.load(1, (40, 50))
    assert first.image.shape == (3, 40, 50) and first.image.dtype == torch.uint8
    assert first.image[:, 20, 40].tolist() == [200, 100, 50] and first.image[:, 20, 10].tolist() == [0, 0, 0]
    assert second.masks.shape == (2, 40, 50) and second.masks.dtype == torch.bool
    assert first.masks[0, :, :25].all() and not first.masks[0, :, 25:].any()
    assert second.masks[0, :20].all() and not second.masks[0, 20:].any()
    assert second.masks[1, :, 25:].all() and not second.masks[1, :, :25].any()
    assert second.void.shape == (40, 50) and not second.void.any()
    assert (first.grey, second.grey) == (False, True)


def test_each_mask_is_resized_and_cut_on_its_own(tmp_path):
    """Two categories that each cover 40 % of a cell leave it empty in both: the cut comes before any union."""
    write_index_of_boxes(tmp_path, {1: (10, 10)}, [(1, 1, 0, 0, 4, 10), (1, 3, 6, 0, 10, 10)])
    Image.new("RGB", (10, 10)).save(tmp_path / "1.png")
    masks = CocoSegSource(tmp_path / "index.json", tmp_path).load(0, (1, 1)).masks
    assert masks.flatten().tolist() == [False, False]


def test_items_behave_like_a_list(small_set):
    items = CocoSegSource(small_set / "index.json", small_set / "images").items
    assert len(items) == 2 and items[-1] == items[1] and items[:1] == [items[0]] and list(items) == [items[0], items[1]]
    with pytest.raises(IndexError):
        items[2]


def test_a_source_can_be_sent_to_a_worker(small_set):
    source = CocoSegSource(small_set / "index.json", small_set / "images")
    again = pickle.loads(pickle.dumps(source))
    assert torch.equal(again.load(1, (16, 16)).masks, source.load(1, (16, 16)).masks)


def test_missing_index_folder_and_image_are_each_named(small_set):
    with pytest.raises(MissingFileError, match="other.json"):
        CocoSegSource(small_set / "other.json", small_set / "images")
    with pytest.raises(MissingFileError, match="pictures"):
        CocoSegSource(small_set / "index.json", small_set / "pictures")
    source = CocoSegSource(small_set / "index.json", small_set / "images")
    (small_set / "images" / "1.png").unlink()
    with pytest.raises(MissingFileError, match="1.png"):
        source.load(0, (16, 16))


def test_a_name_that_leads_out_of_the_folder_is_not_read(small_set):
    index = json.loads((small_set / "index.json").read_text())
    names = ["../images/1.png", "../2.png"]  # the first comes back, the second does not
    index["images"] = [image | {"file_name": name} for image, name in zip(index["images"], names)]
    (small_set / "index.json").write_text(json.dumps(index))
    (small_set / "images" / "2.png").rename(small_set / "2.png")
    with pytest.raises(DataError, match=r"^\.\./2\.png: leads out of .*images"):
        CocoSegSource(small_set / "index.json", small_set / "images")
    index["images"][1]["file_name"] = "2.png"
    (small_set / "index.json").write_text(json.dumps(index))
    source = CocoSegSource(small_set / "index.json", small_set / "images")
    assert source.load(0, (16, 16)).image.shape == (3, 16, 16)


def test_a_shrunken_image_is_accepted_and_one_of_another_aspect_is_refused(small_set):
    source = CocoSegSource(small_set / "index.json", small_set / "images")
    Image.new("RGB", (33, 26)).save(small_set / "images" / "1.png")  # 100x80 at a third, rounded
    assert source.load(0, (16, 16)).image.shape == (3, 16, 16)
    Image.new("RGB", (80, 80)).save(small_set / "images" / "1.png")
    with pytest.raises(DataError, match="80x80 pixels.*100x80"):
        source.load(0, (16, 16))


@pytest.mark.parametrize("stored, turned", [((100, 80), False), ((80, 100), True)])
def test_a_rotation_tag_counts_only_if_the_annotations_were_made_on_the_turned_image(small_set, stored, turned):
    pixels = np.zeros((stored[1], stored[0], 3), dtype=np.uint8)
    pixels[:10] = 255  # the first stored rows; orientation 6 turns them to the right-hand side
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(pixels).save(small_set / "images" / "1.png", exif=exif)
    loaded = CocoSegSource(small_set / "index.json", small_set / "images").load(0, (80, 100)).image
    assert loaded[0, 2, 50] == (0 if turned else 255)
    assert loaded[0, 50, 97] == (255 if turned else 0)


@pytest.mark.real_data
def test_real_photographs_load_with_masks_that_are_not_empty(tmp_path):
    if not os.environ.get("SSNM_DATA"):
        pytest.skip("needs COCO_mini549: set SSNM_DATA to the folder that holds it")
    folder = Path(os.environ["SSNM_DATA"]) / "COCO_mini549"
    write_index(build_index(folder / "instances_mini549.json", min_images=1), tmp_path / "index.json")
    source = CocoSegSource(tmp_path / "index.json", folder / "images")
    for i in range(0, len(source.items), 25):
        sample = source.load(i, (112, 112))
        assert sample.image.float().std() > 5
        assert sample.masks.shape[0] == len(source.items[i].categories)
        assert (sample.masks.flatten(1).float().mean(1) > 0.003).all()


def test_resizing_averages_the_pixels_that_an_output_pixel_covers():
    stripes = np.zeros((8, 8, 3), dtype=np.uint8)
    stripes[:, ::2] = 200
    assert (resize_image(stripes, (1, 1)).float() - 100).abs().max() <= 1  # without antialiasing: 0 or 200
    tall = resize_image(stripes, (4, 2))
    assert tall.shape == (3, 4, 2) and tall.is_contiguous()


@pytest.mark.parametrize("covered, expected", [(4, False), (6, True)])
def test_a_resized_mask_pixel_is_set_where_more_than_half_is_covered(covered, expected):
    mask = np.zeros((10, 10), dtype=bool)
    mask[:, :covered] = True
    assert resize_mask(mask, (1, 1)).tolist() == [[expected]]


def test_class_numbers_are_never_mixed_by_resizing():
    index = np.zeros((9, 9), dtype=np.uint8)
    index[4:, 4:] = 255
    resized = resize_nearest(index, (5, 13))
    assert resized.shape == (5, 13) and set(resized.unique().tolist()) == {0, 255}


def test_arrays_of_the_wanted_size_come_back_unchanged():
    generator = np.random.default_rng(0)
    pixels = generator.integers(0, 256, (6, 7, 3), dtype=np.uint8)
    assert np.array_equal(resize_image(pixels, (6, 7)).permute(1, 2, 0).numpy(), pixels)
    assert np.array_equal(resize_mask(pixels[:, :, 0] > 99, (6, 7)).numpy(), pixels[:, :, 0] > 99)
    assert np.array_equal(resize_nearest(pixels[:, :, 0], (6, 7)).numpy(), pixels[:, :, 0])
