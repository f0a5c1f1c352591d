"""COCO-SEG: the rule that picks images, the index file, the comparison with the published list."""

import hashlib
import json
import os
from pathlib import Path

import numpy as np
import pytest

from ssnm.data.coco_index import CocoSegIndex, offsets_of, read_index, write_index
from ssnm.data.coco_seg import build_index, hash_of_image_ids, published_counts, verify
from ssnm.errors import ConfigError, DataError, MissingFileError

CATEGORIES = [{"id": 3, "name": "car"}, {"id": 1, "name": "person"}, {"id": 63, "name": "Sofa"}]


def box(left, top, right, bottom):
    return [[left, top, right, top, right, bottom, left, bottom]]


def instance(image_id, category_id, left, top, right, bottom, **fields):
    area = (right - left) * (bottom - top)
    return {"image_id": image_id, "category_id": category_id, "segmentation": box(left, top, right, bottom),
            "area": area, "iscrowd": 0} | fields


def image(image_id, width=100, height=80, **fields):
    return {"id": image_id, "file_name": f"{image_id}.png", "width": width, "height": height} | fields


def crowd(image_id, category_id, mask):
    """A crowd region as COCO writes it: run lengths down the columns, beginning with background."""
    runs, value, flat = [0], 0, mask.T.ravel()
    for pixel in flat:
        if pixel != value:
            runs.append(0)
            value = pixel
        runs[-1] += 1
    return {"image_id": image_id, "category_id": category_id, "iscrowd": 1, "area": int(mask.sum()),
            "segmentation": {"size": list(mask.shape), "counts": runs}}


@pytest.fixture
def write(tmp_path):
    def write_annotations(images, annotations, categories=CATEGORIES):
        path = tmp_path / "instances.json"
        path.write_text(json.dumps({"images": images, "annotations": annotations, "categories": categories}))
        return path

    return write_annotations


def images_by_category(index):
    return dict(zip(index.category_names, (ids.tolist() for ids in index.images_of_categories())))


def test_an_image_qualifies_only_by_a_non_crowd_instance_above_the_area(write):
    above, exactly, small = (0, 0, 50, 41), (0, 0, 50, 40), (0, 0, 5, 5)
    whole = np.ones((80, 100), dtype=np.uint8)
    path = write(
        [image(i) for i in (7, 5, 6, 8)],
        [instance(7, 1, *above), instance(5, 1, *exactly), crowd(6, 1, whole), instance(6, 3, *above),
         instance(8, 1, *above), instance(8, 3, *small), instance(8, 63, *above)],
    )
    index = build_index(path, min_area=2000, min_images=1)
    assert images_by_category(index) == {"person": [7, 8], "car": [6], "couch": [8]}
    assert index.category_ids == (1, 3, 63)
    assert index.image_ids.tolist() == [6, 7, 8]
    assert [index.categories_of(i) for i in range(3)] == [("car",), ("person",), ("person", "couch")]


def test_many_small_instances_do_not_add_up_to_one_large_one(write):
    halves = [instance(1, 1, 0, 0, 40, 40), instance(1, 1, 40, 0, 80, 40)]
    path = write([image(1)], [*halves, instance(1, 3, 0, 0, 60, 60)])
    assert images_by_category(build_index(path, min_area=2000, min_images=1)) == {"car": [1]}


def test_a_category_with_fewer_images_than_the_minimum_is_dropped_and_so_are_its_images(write):
    large = (0, 0, 50, 50)
    annotations = [instance(1, 1, *large), instance(2, 1, *large), instance(3, 3, *large)]
    path = write([image(i) for i in (1, 2, 3)], annotations)
    index = build_index(path, min_area=2000, min_images=2)
    assert images_by_category(index) == {"person": [1, 2]}
    assert index.image_ids.tolist() == [1, 2]


@pytest.mark.parametrize("area_scale, expected", [("auto", {"person": [1]}), ("none", {"car": [2]})])
def test_areas_of_shrunken_images_are_scaled_back_on_request(write, area_scale, expected):
    path = write(
        [image(1, 100, 80, orig_width=200, orig_height=160), image(2)],
        [instance(1, 1, 0, 0, 40, 26), instance(2, 3, 0, 0, 40, 40)],  # 1040 px, 4160 originally; and 1600 px
    )
    index = build_index(path, min_area=4000 if area_scale == "auto" else 1500, min_images=1, area_scale=area_scale)
    assert images_by_category(index) == expected


def test_a_mask_is_the_union_of_all_annotations_crowd_and_small_ones_included(write):
    region = np.zeros((80, 100), dtype=np.uint8)
    region[60:80, 90:100] = 1
    path = write(
        [image(1)],
        [instance(1, 1, 10, 20, 60, 70), instance(1, 1, 70, 0, 75, 5), crowd(1, 1, region), instance(1, 3, 0, 0, 9, 9)],
    )
    index = build_index(path, min_area=2000, min_images=1)
    (mask,) = index.masks_of(0)
    expected = region.astype(bool)
    expected[20:70, 10:60] = True
    expected[0:5, 70:75] = True
    assert mask.dtype == bool
    np.testing.assert_array_equal(mask, expected)


def test_masks_agree_with_a_union_of_separately_drawn_polygons(write):
    codec = pytest.importorskip("pycocotools.mask")
    generator = np.random.default_rng(3)
    outlines = [[generator.uniform(0, 80, 12).round(2).tolist() for _ in range(2)] for _ in range(4)]
    path = write([image(1)], [instance(1, 1, 0, 0, 90, 70, segmentation=outline) for outline in outlines])
    (mask,) = build_index(path, min_images=1).masks_of(0)
    expected = np.zeros((80, 100), dtype=bool)
    for polygon in (polygon for outline in outlines for polygon in outline):
        expected |= codec.decode(codec.frPyObjects([polygon], 80, 100))[:, :, 0].astype(bool)
    np.testing.assert_array_equal(mask, expected)


def test_degenerate_polygons_are_not_read_as_boxes(write):
    two_points = [[60, 60, 30, 15]]
    path = write([image(1)], [instance(1, 1, 0, 0, 50, 50), instance(1, 1, 0, 0, 1, 1, segmentation=two_points)])
    (mask,) = build_index(path, min_area=2000, min_images=1).masks_of(0)
    assert mask.sum() == 2500


def test_an_index_survives_writing_and_reading(write, tmp_path):
    annotations = [instance(1, 1, 0, 0, 50, 50), instance(2, 1, 3, 4, 70, 60), instance(2, 3, 0, 0, 90, 70)]
    path = write([image(1), image(2)], annotations)
    index = build_index(path, min_area=2000, min_images=1)
    write_index(index, tmp_path / "index.json")
    again = read_index(tmp_path / "index.json")
    assert again.category_names == index.category_names and again.file_names == ("1.png", "2.png")
    assert again.rule == {"min_area": 2000.0, "min_images": 1, "area_scale": "auto"}
    assert again.source == {"file_name": "instances.json", "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
    for i in range(2):
        assert again.categories_of(i) == index.categories_of(i)
        np.testing.assert_array_equal(list(again.masks_of(i)), list(index.masks_of(i)))


def test_the_file_is_read_by_the_tools_for_coco(write, tmp_path):
    """One annotation per pair; pycocotools draws the mask that training sees."""
    coco = pytest.importorskip("pycocotools.coco")
    annotations = [instance(1, 1, 0, 0, 50, 50), instance(1, 1, 60, 10, 70, 20), instance(2, 3, 0, 0, 90, 70)]
    index = build_index(write([image(1), image(2)], annotations), min_area=2000, min_images=1)
    write_index(index, tmp_path / "index.json")
    theirs = coco.COCO(str(tmp_path / "index.json"))
    assert theirs.getImgIds(catIds=[3]) == [2] and len(theirs.getAnnIds()) == 2
    (of_person,) = theirs.loadAnns(theirs.getAnnIds(imgIds=[1], catIds=[1]))
    np.testing.assert_array_equal(theirs.annToMask(of_person).astype(bool), next(index.masks_of(0)))


def test_the_index_is_the_same_whatever_the_order_of_images_and_annotations(write):
    images = [image(i) for i in (1, 2, 3)]
    annotations = [instance(i, c, 0, 0, 50 + i, 50 + c) for i in (1, 2, 3) for c in (1, 3)]
    first = build_index(write(images, annotations), min_area=2000, min_images=1)
    second = build_index(write(images[::-1], annotations[::-1], CATEGORIES[::-1]), min_area=2000, min_images=1)
    assert first.codes == second.codes and first.image_ids.tolist() == second.image_ids.tolist()
    assert first.category_names == second.category_names


def test_a_write_that_fails_leaves_the_old_index_and_no_litter(write, tmp_path, monkeypatch):
    index = build_index(write([image(1)], [instance(1, 1, 0, 0, 70, 70)]), min_images=1)
    target = tmp_path / "index.json"
    target.write_text("old")

    def disk_full(*_):
        raise OSError(28, "no space left")

    monkeypatch.setattr(os, "fsync", disk_full)
    with pytest.raises(DataError, match="no space"):
        write_index(index, target)
    assert target.read_text() == "old"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["index.json", "instances.json"]


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda d: d.pop("annotations"), "annotations"),
        (lambda d: d["annotations"][0].pop("area"), "has no area"),
        (lambda d: d["annotations"][0].update(image_id=99), "not listed"),
        (lambda d: d["annotations"][0].update(category_id=99), "category 99"),
        (lambda d: d["annotations"][0].update(segmentation=[]), r"\.json: annotation \S+ of .* not one drawn"),
        (lambda d: d["annotations"][0].update(segmentation={"size": [9, 9], "counts": [81]}), "of size .9, 9."),
        (lambda d: d["images"].append(image(1)), "image id 1 occurs twice"),
        (lambda d: d["images"][0].update(width=0), "size 0x80"),
        (lambda d: (d["categories"].append({"id": 164, "name": "couch"}),
                    d["annotations"].extend([instance(1, 63, 0, 0, 9, 9), instance(1, 164, 0, 0, 9, 9)])), "'couch'"),
        (lambda d: d["annotations"].clear(), "no category has 1 image with"),
    ],
)
def test_annotations_that_cannot_be_used_are_refused_in_one_line(tmp_path, change, message):
    document = {"images": [image(1)], "annotations": [instance(1, 1, 0, 0, 70, 70)], "categories": list(CATEGORIES)}
    change(document)
    path = tmp_path / "instances.json"
    path.write_text(json.dumps(document))
    with pytest.raises(DataError, match=message) as caught:
        build_index(path, min_images=1)
    assert "\n" not in str(caught.value)


def test_files_that_are_not_there_or_not_json_are_named(tmp_path):
    with pytest.raises(MissingFileError, match="nowhere.json"):
        build_index(tmp_path / "nowhere.json")
    with pytest.raises(MissingFileError, match="ssnm datasets coco-seg"):
        read_index(tmp_path / "nowhere.json")
    broken = tmp_path / "broken.json"
    broken.write_text('{"images": [')
    for read in (build_index, read_index):
        with pytest.raises(DataError, match="broken.json.*JSON"):
            read(broken)
    with pytest.raises(DataError, match="cannot be read"):
        build_index(tmp_path)


BAD_OPTIONS = [{"min_area": -1}, {"min_area": float("nan")}, {"min_images": 0}, {"area_scale": "x"}]


@pytest.mark.parametrize("option", BAD_OPTIONS)
def test_options_out_of_range_are_refused(tmp_path, option):
    with pytest.raises(ConfigError, match=next(iter(option))):
        build_index(tmp_path / "unread.json", **option)


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda d: d.pop("info"), "not a COCO-SEG index.*ssnm datasets coco-seg"),
        (lambda d: d.update(info={}, format="ssnm-coco-seg", version=1), "not a COCO-SEG index of this version"),
        (lambda d: d.pop("annotations"), "damaged"),
        (lambda d: d["annotations"].clear(), "damaged.*missing"),
        (lambda d: d["images"].append(dict(d["images"][0], id=5)), "damaged.*missing"),
        (lambda d: d["images"].append(dict(d["images"][0])), "damaged.*missing"),
        (lambda d: d["annotations"][0].update(image_id=7), "damaged.*7"),
        (lambda d: d["annotations"][0].update(category_id=7), "damaged.*7"),
        (lambda d: d["annotations"][0]["segmentation"].update(counts=""), "damaged.*empty"),
        (lambda d: d["annotations"][0]["segmentation"].update(size=[100, 80]), "damaged.*size"),
    ],
)
def test_a_damaged_or_foreign_index_is_refused(write, tmp_path, change, message):
    path = tmp_path / "index.json"
    write_index(build_index(write([image(1)], [instance(1, 1, 0, 0, 70, 70)]), min_images=1), path)
    document = json.loads(path.read_text())
    change(document)
    path.write_text(json.dumps(document))
    with pytest.raises(DataError, match=message):
        read_index(path)


# The published list


def index_of(images_per_category: dict[int, list[int]]) -> CocoSegIndex:
    """An index without masks that holds just these images for these COCO category ids."""
    ids = tuple(sorted(images_per_category))
    images = sorted(set().union(*images_per_category.values()))
    members = [set(images_per_category[c]) for c in ids]
    pairs = [[p for p, member in enumerate(members) if i in member] for i in images]
    flat = np.concatenate(pairs).astype(np.int32)
    return CocoSegIndex(
        category_ids=ids, category_names=tuple(f"kind {c}" for c in ids), image_ids=np.array(images),
        file_names=tuple(map(str, images)), sizes=np.ones((len(images), 2), np.int32),
        pair_offsets=offsets_of([len(p) for p in pairs]), pair_categories=flat,
        code_offsets=offsets_of([1] * len(flat)), codes=b"0" * len(flat), rule={}, source={},
    )


def test_published_counts_add_up_and_skip_toaster_and_hair_drier():
    facts = published_counts()
    counts = {int(key): value["images"] for key, value in facts["categories"].items()}
    assert len(counts) == 78 and not {80, 89} & counts.keys()
    assert sum(counts.values()) == facts["total_pairs"] == 200_932
    assert facts["distinct_images"] == 107_132
    assert min(counts.items(), key=lambda item: item[1]) == (37, 201)
    assert max(counts.items(), key=lambda item: item[1]) == (1, 49_355)
    assert facts["categories"]["37"]["name"] == "sports ball"


def test_the_hash_does_not_depend_on_order_and_sorts_by_number():
    assert hash_of_image_ids([10, 9, 2]) == hashlib.sha256(b"2,9,10").hexdigest()


def test_verify_names_each_category_that_differs(monkeypatch):
    held = {1: [1, 2, 3], 2: [2, 30], 3: [5], 5: [8]}
    facts = {
        "categories": {
            "1": {"name": "person", "images": 3, "sha256": hash_of_image_ids([1, 2, 3])},
            "2": {"name": "bicycle", "images": 2, "sha256": hash_of_image_ids([2, 31])},
            "3": {"name": "car", "images": 2, "sha256": hash_of_image_ids([5, 6])},
            "4": {"name": "motorcycle", "images": 9, "sha256": ""},
        },
        "total_pairs": 16,
        "distinct_images": 6,
    }
    monkeypatch.setattr("ssnm.data.coco_seg.published_counts", lambda: facts)
    report = verify(index_of(held))
    assert not report.ok and report.matching_categories == 1
    assert [line.split(":")[0] for line in report.mismatches] == [
        "kind 2 (id 2)", "kind 3 (id 3)", "motorcycle (id 4)", "kind 5 (id 5)", "in all"]  # 6 images, but 7 pairs
    assert "hash differs" in report.mismatches[0] and "2 images expected, got 1" in report.mismatches[1]
    assert "16 (category, image) pairs expected, got 7" in report.mismatches[-1]


def test_verify_accepts_the_list_it_was_given(monkeypatch):
    held = {1: [1, 2, 3], 18: [2, 30]}
    categories = {str(c): {"name": "", "images": len(i), "sha256": hash_of_image_ids(i)} for c, i in held.items()}
    facts = {"categories": categories, "total_pairs": 5, "distinct_images": 4}
    monkeypatch.setattr("ssnm.data.coco_seg.published_counts", lambda: facts)
    report = verify(index_of(held))
    assert report.ok and "all 2 categories agree" in str(report)


# Real photographs


@pytest.fixture(scope="module")
def mini():
    if not os.environ.get("SSNM_DATA"):
        pytest.skip("needs COCO_mini549: set SSNM_DATA to the folder that holds it")
    folder = Path(os.environ["SSNM_DATA"]) / "COCO_mini549"
    return folder / "instances_mini549.json", build_index(folder / "instances_mini549.json", min_images=1)


@pytest.mark.real_data
def test_the_published_names_are_those_of_coco(mini):
    document = json.loads(mini[0].read_text())
    names = {str(c["id"]): c["name"] for c in document["categories"]}
    facts = published_counts()["categories"]
    assert {key: value["name"] for key, value in facts.items()} == {k: n for k, n in names.items() if k in facts}


@pytest.mark.real_data
def test_real_annotations_give_the_pairs_of_a_literal_reading_of_the_rule(mini):
    document = json.loads(mini[0].read_text())
    images = {i["id"]: i for i in document["images"]}
    expected = set()
    for a in document["annotations"]:
        record = images[a["image_id"]]
        scale = record["orig_width"] / record["width"] * record["orig_height"] / record["height"]
        if a["iscrowd"] == 0 and a["area"] * scale > 4000:
            expected.add((a["category_id"], a["image_id"]))
    index = mini[1]
    got = {(c, i) for c, ids in zip(index.category_ids, index.images_of_categories()) for i in ids.tolist()}
    assert got == expected
    assert len(index.category_ids) > 70 and index.num_images > 400


@pytest.mark.real_data
def test_leaving_areas_unscaled_loses_images_of_the_shrunken_set(mini):
    unscaled = build_index(mini[0], min_images=1, area_scale="none")
    assert 0 < unscaled.num_pairs < mini[1].num_pairs and unscaled.rule["area_scale"] == "none"


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda d: d.update(annotations=None), "annotations must be a list, got null"),
        (lambda d: d.update(images={}), "images must be a list, got dict"),
        (lambda d: d["annotations"].append(None), "annotations number 1 must be a mapping"),
        (lambda d: d["images"][0].update(id="1"), 'image number 0 has the id "1", a whole number'),
        (lambda d: d["annotations"][0].update(image_id="1"), 'annotation number 0 has the image_id "1"'),
        (lambda d: d["annotations"][0].update(category_id=None), "has the category_id null"),
        (lambda d: d["annotations"][0].update(area=float("nan")), "the area NaN"),
        (lambda d: d["annotations"][0].update(area=-5), "the area -5"),
        (lambda d: d["images"][0].update(height="80"), 'has the height "80"'),
        (lambda d: d["images"][0].pop("file_name"), "image 1 has no file_name"),
    ],
)
def test_every_record_of_a_file_is_looked_at(tmp_path, change, message):
    document = {"images": [image(1)], "annotations": [instance(1, 1, 0, 0, 70, 70)], "categories": list(CATEGORIES)}
    change(document)
    path = tmp_path / "instances.json"
    path.write_text(json.dumps(document))
    with pytest.raises(DataError, match=f"instances.json.*{message}") as caught:
        build_index(path, min_images=1)
    assert "\n" not in str(caught.value)


def test_a_twin_category_that_nothing_uses_does_not_matter(write):
    path = write([image(1)], [instance(1, 1, 0, 0, 70, 70)], [*CATEGORIES, {"id": 0, "name": "person"}])
    assert build_index(path, min_images=1).category_names == ("person",)


def test_drawn_areas_that_differ_from_the_stated_ones_are_said(write):
    said = []
    wrong = instance(2, 1, 0, 0, 20, 20, id=6, area=6400)
    path = write([image(1), image(2)], [instance(1, 1, 0, 0, 70, 70, id=5), wrong])
    build_index(path, min_images=1, say=said.append)
    assert len(said) == 1 and said[0].startswith("1 of 2 annotations draw an area") and "annotation 6" in said[0]
    assert "400 pixels drawn, area 6400" in said[0]
