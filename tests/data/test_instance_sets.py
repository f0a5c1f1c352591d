"""Test sets of instances: the official layout, COCO with groups, the rule that makes groups, VOC, drawn groups."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ssnm.data.coco_instances import CocoInstances, GroupRule, groups_by_rule
from ssnm.data.instance_groups import coco_groups, voc_groups
from ssnm.data.instance_sets import InstanceGroup, half_of, read_instance_set, require_truths
from ssnm.data.procedural_instances import write_procedural_instances
from ssnm.data.procedural_kinds import SEEN_KINDS
from ssnm.errors import ConfigError, DataError, MissingFileError
from ssnm.files.ids import voc_palette

SIZE = (40, 50)


def polygon(x: int, y: int, side: int) -> list[list[int]]:
    return [[x, y, x + side, y, x + side, y + side, x, y + side]]


def annotation(number: int, image: int, category: int, side: int, crowd: int = 0, x: int = 2) -> dict:
    return {"id": number, "image_id": image, "category_id": category, "iscrowd": crowd, "area": side * side,
            "segmentation": polygon(x, 2, side)}  # fmt: skip


@pytest.fixture
def coco(tmp_path):
    """Images 1 to 4: two dogs, one dog, a dog too small, a dog beside a crowd of dogs."""
    (tmp_path / "images").mkdir()
    for number in range(1, 5):
        Image.fromarray(np.zeros((*SIZE, 3), np.uint8)).save(tmp_path / "images" / f"{number}.png")
    document = {
        "images": [{"id": n, "file_name": f"{n}.png", "height": SIZE[0], "width": SIZE[1]} for n in range(1, 5)],
        "categories": [{"id": 18, "name": "dog"}],
        "annotations": [annotation(1, 1, 18, 10), annotation(2, 1, 18, 8, x=20), annotation(3, 2, 18, 12),
                        annotation(4, 3, 18, 3), annotation(5, 4, 18, 10), annotation(6, 4, 18, 10, crowd=1)],
    }  # fmt: skip
    (tmp_path / "instances_tiny.json").write_text(json.dumps(document))
    return tmp_path


def test_the_rule_takes_images_with_objects_large_enough_and_without_a_crowd(coco):
    groups = groups_by_rule(CocoInstances(coco / "instances_tiny.json"), GroupRule(min_images=2))
    assert groups == {"dog": ([1, 2], [1, 2, 3])}
    with pytest.raises(DataError, match="no category makes a group"):
        groups_by_rule(CocoInstances(coco / "instances_tiny.json"), GroupRule(min_images=3))
    with pytest.raises(ConfigError, match="min_share"):
        GroupRule(min_share=0.5, largest_share=0.1)


def test_groups_written_are_groups_read_with_their_objects_drawn(coco):
    assert coco_groups(coco, coco / "groups.json", GroupRule(min_images=2)) == {"dog": (2, 3)}
    (group,) = read_instance_set("coco_instances", coco)
    assert group.name == "dog" and [p.name for p in group.paths] == ["1.png", "2.png"]
    truth = group.truth(0)
    assert truth.shape == (2, *SIZE) and truth[0, 2:12, 2:12].all() and truth[0].sum() == 100
    assert group.truth(1).shape == (1, *SIZE)


@pytest.mark.parametrize(
    "segmentation, words",
    [(polygon(float("nan"), 2, 5), "finite"), ([[1, 2, 3, 4]], "not one pixel"), (None, "polygons"), ([], "polygons"),
     (polygon(60, 2, 5), "not one pixel"), (polygon(900, 2, 5), "far outside"), (polygon(0.1, 0.1, 0.5), "0..1"),
     ({"size": [2, 2], "counts": [4]}, "but the image is"), ({"size": [40, 50], "counts": [4]}, "sum to 4")],
)  # fmt: skip
def test_objects_that_cannot_be_drawn_name_file_and_annotation(coco, segmentation, words):
    instances = CocoInstances(coco / "instances_tiny.json")
    with pytest.raises(DataError, match=f"instances_tiny.json: annotation 1.*{words}"):
        instances.draw({"id": 1, "image_id": 1, "area": 50, "segmentation": segmentation})


@pytest.mark.parametrize(
    "change, words",
    [({"id": "7"}, "a whole number that no other one has"), ({"id": 2}, "no other one has"), ({"area": None}, "area"),
     ({"image_id": 9}, "image 9"), ({"category_id": [18]}, "category_id")],
)  # fmt: skip
def test_records_are_looked_at_as_every_reader_of_coco_does(coco, change, words):
    path = coco / "instances_tiny.json"
    document = json.loads(path.read_text())
    document["annotations"][0] |= change
    path.write_text(json.dumps(document))
    with pytest.raises(DataError, match=f"instances_tiny.json: .*{words}"):
        CocoInstances(path)


def test_areas_that_are_not_those_drawn_are_said(coco):
    path = coco / "instances_tiny.json"
    document = json.loads(path.read_text())
    for record in document["annotations"][:3]:
        record["area"] *= 9
    path.write_text(json.dumps(document))
    said = []
    coco_groups(coco, coco / "groups.json", GroupRule(min_images=2), said.append)
    assert len(said) == 1 and "3 of 3 annotations draw an area that differs" in said[0]


def test_a_group_of_images_that_are_not_there_is_one_line(coco):
    coco_groups(coco, coco / "groups.json", GroupRule(min_images=2))
    (coco / "images" / "2.png").unlink()
    with pytest.raises(MissingFileError, match="1 image of group dog not there: 2.png"):
        read_instance_set("coco_instances", coco)
    (coco / "groups.json").write_text('{"groups": {"dog": {"images": [9], "annotation_ids": []}}}')
    with pytest.raises(DataError, match="no image 9"):
        read_instance_set("coco_instances", coco)


def test_a_group_does_not_read_images_elsewhere(coco):
    coco_groups(coco, coco / "groups.json", GroupRule(min_images=2))
    elsewhere = (coco / "images" / "2.png").rename(coco / "2.png")
    for name in ("../2.png", str(elsewhere)):
        text = json.loads((coco / "instances_tiny.json").read_text())
        text["images"][1]["file_name"] = name
        (coco / "instances_tiny.json").write_text(json.dumps(text))
        with pytest.raises(DataError, match=f"^{re.escape(name)}: leads out of .*images"):
            read_instance_set("coco_instances", coco)


def test_the_official_layout_is_read_as_it_is(tmp_path):
    for kind, name, value in (("Image", "b1.jpg", 9), ("Mask", "b1_InstID1.png", 255), ("Mask", "b1_InstID2.png", 255),
                              ("Mask", "b12_InstID1.png", 255), ("Image", "b12.jpg", 9)):  # fmt: skip
        (tmp_path / kind / "bird").mkdir(parents=True, exist_ok=True)
        picture = np.zeros(SIZE, np.uint8)
        picture[3:9, 3 : 3 + len(name)] = value
        Image.fromarray(picture).save(tmp_path / kind / "bird" / name)
    (tmp_path / "SalRes_ZhangICCV17" / "bird").mkdir(parents=True)
    (group,) = read_instance_set("instance_folder", tmp_path)
    assert [p.name for p in group.paths] == ["b1.jpg", "b12.jpg"] and len(group.truth(0)) == 2
    assert len(group.truth(1)) == 1 and group.saliency.name == "bird" and group.proposals is None
    (tmp_path / "Mask" / "bird" / "b12_InstID1.png").unlink()
    with pytest.raises(MissingFileError, match="no mask b12_InstID"):
        group.truth(1)
    Image.fromarray(np.zeros(SIZE, np.uint8)).save(tmp_path / "Mask" / "bird" / "b1_InstID2.png")
    with pytest.raises(DataError, match="2 of 2 .*no mask b12_InstID.*b1_InstID2.png: shows no object|"
                                        "2 of 2 .*b1_InstID2.png: shows no object.*no mask b12_InstID"):
        require_truths([group])


def test_voc_becomes_the_official_layout(tmp_path):
    for folder in ("JPEGImages", "SegmentationClass", "SegmentationObject"):
        (tmp_path / folder).mkdir()
    for stem in ("a", "b"):
        Image.fromarray(np.zeros((*SIZE, 3), np.uint8)).save(tmp_path / "JPEGImages" / f"{stem}.jpg")
        classes, ids = np.zeros(SIZE, np.uint8), np.zeros(SIZE, np.uint8)
        classes[5:25, 5:45], ids[5:25, 5:20], ids[5:25, 20:45] = 8, 1, 2  # two cats
        for folder, picture in (("SegmentationClass", classes), ("SegmentationObject", ids)):
            image = Image.fromarray(picture)
            image.putpalette(voc_palette())
            image.save(tmp_path / folder / f"{stem}.png")
    assert voc_groups(tmp_path, tmp_path / "out", GroupRule(min_images=2)) == {"cat": (2, 4)}
    (group,) = read_instance_set("instance_folder", tmp_path / "out")
    assert [int(mask.sum()) for mask in group.truth(0)] == [300, 500]


def test_drawn_groups_have_several_objects_and_are_the_same_for_the_same_seed(tmp_path):
    for name in ("one", "two"):
        write_procedural_instances(tmp_path / name, groups=2, images=2, side=48, seed=5)
    groups, again = (read_instance_set("instance_folder", tmp_path / name) for name in ("one", "two"))
    assert sorted(g.name for g in groups) == sorted(SEEN_KINDS[:2])
    for group, other in zip(groups, again):
        assert group.paths[0].read_bytes() == other.paths[0].read_bytes()
        assert all(len(group.truth(i)) in (2, 3) for i in range(2))
    with pytest.raises(DataError, match="1 to"):
        write_procedural_instances(tmp_path, groups=0)


def test_roots_that_are_not_there_are_one_line(tmp_path):
    with pytest.raises(MissingFileError, match="no such folder"):
        read_instance_set("instance_folder", tmp_path / "none")
    with pytest.raises(MissingFileError, match="no folder Image"):
        read_instance_set("instance_folder", tmp_path)
    with pytest.raises(MissingFileError, match="instances_"):
        read_instance_set("coco_instances", tmp_path)


def test_the_half_to_choose_on_holds_no_image_of_the_half_to_report():
    def group(name: str, *images: int) -> InstanceGroup:
        paths = tuple(Path(f"{i}.jpg") for i in images)
        return InstanceGroup(name, paths, lambda index: np.full((1, 1, 1), images[index]))

    groups = [group("a", 1, 2, 3, 4), group("b", 2, 9), group("c", 9, 5), group("d", 7)]
    assert [g.name for g in half_of(groups, "even")] == ["b", "d"]
    (odd,) = half_of(groups, "odd")  # c keeps a single image
    assert odd.name == "a" and [path.stem for path in odd.paths] == ["1", "3", "4"]
    assert [int(odd.truth(i)[0, 0, 0]) for i in range(3)] == [1, 3, 4]
