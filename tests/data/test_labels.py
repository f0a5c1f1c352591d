"""Label files: read back as documented, they hold the masks; the label command, and training on its labels."""

import json
from xml.etree import ElementTree

import numpy as np
import pytest
import yaml
from PIL import Image, ImageDraw

import ssnm
from ssnm.cli import main
from ssnm.data.labels import Label, LabelWriter
from ssnm.data.procedural import write_procedural
from ssnm.data.procedural_kinds import SEEN_KINDS
from ssnm.errors import ConfigError, DataError
from ssnm.files.masks import read_binary


def shapes() -> list[np.ndarray]:
    """A ring with a hole, two parts, an empty one."""
    y, x = np.mgrid[:60, :80]
    distance = np.hypot(x - 40, y - 30)
    two = (np.hypot(x - 20, y - 20) < 12) | (np.hypot(x - 60, y - 40) < 14)
    return [(distance < 26) & (distance > 10), two, np.zeros((60, 80), bool)]


def written(tmp_path, kind: str, **options):
    writer = LabelWriter(kind, tmp_path, ("cat", "dog"), **options)
    for i, mask in enumerate(shapes()):
        writer.add(Label(f"set/{i}.jpg", mask.shape, mask, ("cat", "dog", "cat")[i], 0.75))
    return writer.close()


def drawn(rings, size) -> np.ndarray:
    """Even-odd filling of polygons by Pillow at eight times the size."""
    image = Image.new("1", (size[1] * 8, size[0] * 8))
    for ring in rings:
        layer = Image.new("1", image.size)
        ImageDraw.Draw(layer).polygon([tuple(8 * v for v in point) for point in ring], fill=1)
        image = Image.fromarray(np.array(image) ^ np.array(layer))
    return np.array(image)[4::8, 4::8]


def iou(a, b) -> float:
    return (a & b).sum() / (a | b).sum()


@pytest.mark.parametrize("polygons", [False, True])
def test_coco_files_are_read_by_pycocotools(tmp_path, polygons, capsys):
    from pycocotools.coco import COCO

    coco = COCO(str(written(tmp_path, "coco", polygons=polygons)[0]))
    assert [c["name"] for c in coco.loadCats(coco.getCatIds())] == ["cat", "dog"]
    assert [i["file_name"] for i in coco.loadImgs([1, 2, 3])] == ["set/0.jpg", "set/1.jpg", "set/2.jpg"]
    annotations = coco.loadAnns(coco.getAnnIds())
    assert [(a["image_id"], a["category_id"], a["score"]) for a in annotations] == [(1, 1, 0.75), (2, 2, 0.75)]
    for annotation, mask in zip(annotations, shapes()):
        back = coco.annToMask(annotation).astype(bool)
        assert np.array_equal(back, mask) if not polygons else iou(back, mask) > 0.93
        assert annotation["area"] == mask.sum()
        x, y, w, h = annotation["bbox"]
        assert mask[y : y + h, x : x + w].sum() == mask.sum() and mask[y, x : x + w].any() and mask[y : y + h, x].any()


def test_yolo_files_hold_one_line_of_class_and_shares(tmp_path):
    (path,) = written(tmp_path, "yolo")
    assert yaml.safe_load(path.read_text())["names"] == {0: "cat", 1: "dog"}
    assert sorted(p.name for p in (tmp_path / "labels" / "set").iterdir()) == ["0.txt", "1.txt"]
    for i, mask in enumerate(shapes()[:2]):
        line = (tmp_path / "labels" / "set" / f"{i}.txt").read_text()
        number, *values = line.split()
        points = np.array(values, dtype=float).reshape(-1, 2)
        assert line.count("\n") == 1 and int(number) == i and 0 <= points.min() and points.max() <= 1
        assert iou(drawn([points * (80, 60)], mask.shape), mask) > 0.93


def test_cvat_files_hold_polygons_in_pixels(tmp_path):
    root = ElementTree.parse(written(tmp_path, "cvat")[0]).getroot()
    assert root.tag == "annotations" and root.findtext("version") == "1.1"
    images = root.findall("image")
    assert [i.get("name") for i in images] == ["set/0.jpg", "set/1.jpg", "set/2.jpg"]
    assert [(i.get("id"), i.get("width"), i.get("height")) for i in images][1] == ("1", "80", "60")
    for image, mask in zip(images, shapes()):
        polygons = image.findall("polygon")
        rings = [[tuple(map(float, p.split(","))) for p in e.get("points").split(";")] for e in polygons]
        assert bool(rings) == mask.any() and len({e.get("label") for e in polygons}) == mask.any()
        if mask.any():
            assert iou(drawn(rings, mask.shape), mask) > 0.93


def test_plain_masks_are_pngs_of_0_and_255(tmp_path):
    assert written(tmp_path, "masks")[0].read_text() == "cat\ndog\n"
    files = sorted((tmp_path / "masks" / "set").iterdir())
    assert [f.name for f in files] == ["0.png", "1.png"]
    assert all(np.array_equal(read_binary(f).object, mask) for f, mask in zip(files, shapes()))


@pytest.mark.parametrize("names", [(), ("a/b",), ("",), ("a", "a"), ("a\nb",)])
def test_class_names_that_a_format_cannot_hold_are_refused(tmp_path, names):
    with pytest.raises(ConfigError):
        LabelWriter("yolo", tmp_path, names)


def test_two_images_with_one_label_file_are_refused(tmp_path):
    writer = LabelWriter("yolo", tmp_path, ("cat",))
    writer.add(Label("a.jpg", (60, 80), shapes()[0], "cat"))
    with pytest.raises(DataError, match="a.png and a.jpg would have one label file"):
        writer.add(Label("a.png", (60, 80), shapes()[0], "cat"))


# The command


@pytest.mark.parametrize("kind, said", [("coco", "annotations.json of an earlier run is replaced"),
                                        ("yolo", "also holds labels of 1 image of an earlier run: set/0")])  # fmt: skip
def test_what_an_earlier_run_left_is_said_by_the_command(groups, checkpoint, tmp_path, capsys, kind, said):
    command = ["label", str(groups), "--format", kind, "--out", str(tmp_path), "--checkpoint", str(checkpoint)]
    assert main(command) == 0 and "earlier run" not in capsys.readouterr().out
    written(tmp_path, kind)
    (tmp_path / "labels" / "set" / "1.txt").unlink(missing_ok=True)
    assert main(command) == 0 and said in capsys.readouterr().out


@pytest.mark.parametrize("kind, file", [("yolo", "labels/a.txt"), ("masks", "masks/a.png")])
def test_an_image_that_lost_its_object_loses_its_label(tmp_path, kind, file):
    for mask, there in ((shapes()[0], True), (None, False)):
        writer = LabelWriter(kind, tmp_path, ("cat",))
        writer.add(Label("a.jpg", (60, 80), mask, "cat"))
        assert (tmp_path / file).is_file() == there and writer.earlier() == ""


@pytest.fixture(scope="module")
def groups(tmp_path_factory):
    """Folders of one kind each, one unreadable file among them."""
    root = write_procedural(tmp_path_factory.mktemp("label") / "set", SEEN_KINDS[:4], 3, (64, 64), seed=1) / "image"
    (next(root.iterdir()) / "broken.jpg").write_bytes(b"no image")
    return root


def test_a_folder_of_folders_is_one_class_per_folder_and_a_bad_file_costs_itself(groups, checkpoint, tmp_path, capsys):
    out = tmp_path / "out"
    assert main(["label", str(groups), "--format", "coco", "--out", str(out), "--checkpoint", str(checkpoint)]) == 0
    said = capsys.readouterr().out
    document = json.loads((out / "annotations.json").read_text())
    assert sorted(c["name"] for c in document["categories"]) == sorted(f.name for f in groups.iterdir())
    assert len(document["images"]) == 12 and said.count("left out: ") == 1 and "broken.jpg" in said
    assert all((groups / image["file_name"]).is_file() for image in document["images"])


def test_without_a_class_it_is_called_object_and_labels_train(checkpoint, tmp_path, capsys):
    folder = write_procedural(tmp_path / "set", SEEN_KINDS[:4], 8, (64, 64), seed=2) / "image" / SEEN_KINDS[0]
    common = ["--out", str(tmp_path / "out"), "--checkpoint", str(checkpoint)]
    assert main(["label", str(folder), "--format", "coco", *common]) == 0
    document = json.loads((tmp_path / "out" / "annotations.json").read_text())
    assert [c["name"] for c in document["categories"]] == ["object"]
    for number, image in enumerate(document["images"]):  # whatever the tiny model found, training wants objects
        document["annotations"].append({"id": 100 + number, "image_id": image["id"], "category_id": 1, "iscrowd": 0,
                                        "segmentation": [[4, 4, 40, 4, 40, 40, 4, 40]], "area": 1296,
                                        "bbox": [4, 4, 36, 36]})  # fmt: skip
    (tmp_path / "a.json").write_text(json.dumps(document))
    index = tmp_path / "index.json"
    assert main(["datasets", "coco-seg", str(tmp_path / "a.json"), "--out", str(index), "--min-images", "1",
                 "--min-area", "10"]) == 0  # fmt: skip
    config = {"model": {"dim": 8, "backbone": {"name": "mobilenetv2_035", "weights": "none"}},
              "data": {"sources": [{"type": "coco_seg", "index": str(index), "images": str(folder)}], "size": 32,
                       "group_size": 2, "holdout": 0.5, "workers": 0},
              "train": {"steps": 1, "batch_groups": 1},
              "validation": {"groups": 1, "two_category_images": 0}}  # fmt: skip
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(config))
    assert main(["train", str(tmp_path / "c.yaml"), "--out", str(tmp_path / "run"), "--device", "cpu"]) == 0
    assert ssnm.from_pretrained(tmp_path / "run" / "checkpoints" / "last.pt", "cpu").labels == ("object",)


@pytest.mark.parametrize(
    "options, wanted",
    [
        (["--class", "a/b"], "class names must differ"),
        (["--polygons"], "--polygons is for --format coco"),
    ],
)
def test_wrong_options_are_one_line_before_anything_is_loaded(groups, tmp_path, capsys, options, wanted):
    folder = sorted(groups.iterdir())[0]
    assert main(["label", str(folder), "--format", "yolo", "--out", str(tmp_path), *options]) == 2
    assert wanted in capsys.readouterr().err


def test_a_class_for_several_groups_is_refused(groups, tmp_path, capsys):
    assert main(["label", str(groups), "--format", "yolo", "--out", str(tmp_path), "--class", "x"]) == 2
    assert "--class names one group" in capsys.readouterr().err
