"""Group use on a written test set: which images count, and what the measure says of extreme networks."""

import json
import shutil

import numpy as np
import pytest
from PIL import Image

import ssnm
from ssnm.cli import main
from ssnm.coseg.group_use import measure_group_use, measure_reference, score_alone, two_kind_images
from ssnm.coseg.predict import GroupPrediction
from ssnm.coseg.testing import TestJob
from ssnm.data.procedural import write_procedural
from ssnm.data.procedural_kinds import SEEN_KINDS
from ssnm.data.records import TestImage
from ssnm.data.testsets import TestSet, read_test_set
from ssnm.data.voc import read_voc_coseg_list
from ssnm.errors import DataError
from ssnm.files.masks import read_binary
from ssnm.metrics import score_folder


@pytest.fixture(scope="module")
def two_kind_set(tmp_path_factory) -> TestSet:
    root = tmp_path_factory.mktemp("two") / "root"
    return read_test_set("folder", write_procedural(root, SEEN_KINDS[:3], 6, (32, 40), (2, 2), seed=4))


class FolderPredictor:
    """A predictor that answers with ground truth: of the group's own class, of the other class, or of both."""

    fixed_group_size, size, scales = None, 32, (1.0,)

    def __init__(self, truth_of):
        self.truth_of, self.groups, self.references = truth_of, [], []

    def predict(self, images, reference=None):
        self.groups.append(images)
        self.references.append(reference)
        maps = [self.truth_of(path) for path in images]
        return GroupPrediction(np.stack(maps).astype(np.float32), tuple(m.shape for m in maps), None, None, None)


def own(path):
    return read_binary(path.parents[2] / "groundtruth" / path.parent.name / f"{path.stem}.png").object


def every_kind(path):
    masks = [read_binary(p).object for p in (path.parents[2] / "groundtruth").glob(f"*/{path.stem}.png")]
    return np.any(masks, axis=0)


def test_outside_the_voc_list_photographs_are_compared_not_names(tmp_path):
    def put(category, name, value):
        path = tmp_path / category / f"{name}.png"
        path.parent.mkdir(exist_ok=True)
        Image.new("L", (6, 4), value).save(path)
        return TestImage(category, name, path, None)

    numbered = [put(c, name, value) for c, value in (("car", 10), ("horse", 20)) for name in ("0000", "0001")]
    assert not two_kind_images(TestSet("folder", tuple(numbered)))
    copies = (*numbered, put("dog", "other_name", 10))
    assert [(a.category, a.name, b.category) for a, b in two_kind_images(TestSet("folder", copies))] == [
        ("car", "0000", "dog")
    ]


def test_alone_is_what_the_written_maps_give(checkpoint, two_kind_set, tmp_path):
    segmenter = ssnm.from_pretrained(checkpoint, "cpu")
    root = two_kind_set.images[0].image.parents[2]
    TestJob(segmenter, two_kind_set, root, group_size=1, overlays=None).write(tmp_path, "natural", 0)
    alone = score_alone(segmenter.predictor, two_kind_set)
    assert alone.headline == score_folder(tmp_path, root).headline


def test_two_kind_images_stand_in_two_classes_as_copies_of_one_file(two_kind_set):
    pairs = two_kind_images(two_kind_set)
    assert len(pairs) > 2
    assert all(a.name == b.name and a.category < b.category for a, b in pairs)
    names = [i.name for i in two_kind_set.images]
    assert {a.name for a, _ in pairs} == {n for n in names if names.count(n) > 1}


def test_the_voc_set_pairs_files_of_different_names_by_its_list(tmp_path):
    entries = read_voc_coseg_list()
    by_voc = {}
    for e in entries:
        by_voc.setdefault(e.voc_name, []).append(e)
    shared = next(es for es in by_voc.values() if len(es) > 1 and len({e.file for e in es}) > 1)
    images = tuple(TestImage(e.category, e.file, tmp_path / e.file, None) for e in shared)
    assert [(a.name, b.name) for a, b in two_kind_images(TestSet("folder", images))] == [
        tuple(e.file for e in sorted(shared, key=lambda e: e.category)[:2])
    ]


def test_a_network_that_follows_its_group_uses_it_always(two_kind_set):
    use = measure_group_use(FolderPredictor(own), two_kind_set).use
    assert use.share == use.mean_own == 1 and len(use.records) == len(two_kind_images(two_kind_set))


def test_a_network_that_ignores_its_group_never_uses_it(two_kind_set):
    result = measure_group_use(FolderPredictor(every_kind), two_kind_set)
    assert result.use.share == 0 and all(record.d == 0 for record in result.use.records)


def test_masks_are_cut_by_the_rule_of_the_model(two_kind_set):
    """A network trained with Eq. 13 as printed gives objects less than one half."""
    dim = FolderPredictor(lambda path: 0.1 + 0.3 * own(path))
    assert measure_group_use(dim, two_kind_set).use.mean_own == 0
    use = measure_group_use(dim, two_kind_set, rule="mean+std").use
    assert use.share == use.mean_own == 1


def test_groups_hold_the_image_first_and_others_of_its_class_by_seed(two_kind_set):
    first, again, other = FolderPredictor(own), FolderPredictor(own), FolderPredictor(own)
    measure_group_use(first, two_kind_set, seed=0, group_size=4)
    measure_group_use(again, two_kind_set, seed=0, group_size=4)
    measure_group_use(other, two_kind_set, seed=1, group_size=4)
    assert first.groups == again.groups != other.groups
    assert all(len(set(g)) == 4 and len({p.parent for p in g}) == 1 for g in first.groups)
    assert all(a[0].name == b[0].name for a, b in zip(first.groups[::2], first.groups[1::2]))


def test_the_worst_images_come_first_in_the_pictures(two_kind_set):
    titles = [p.title for p in measure_group_use(FolderPredictor(own), two_kind_set).wrong]
    values = [float(t.split("d = ")[1].rstrip(")")) for t in titles]
    assert values == sorted(values) and len(titles) % 2 == 0


def test_a_set_without_two_kind_images_or_without_truth_is_an_error(two_kind_set):
    single = tuple(i for i in two_kind_set.images if i.category == two_kind_set.categories[0])
    with pytest.raises(DataError, match="two classes"):
        measure_group_use(FolderPredictor(own), TestSet("folder", single))
    blind = tuple(TestImage(i.category, i.name, i.image, None) for i in two_kind_set.images)
    with pytest.raises(DataError, match="ground truth"):
        measure_group_use(FolderPredictor(own), TestSet("folder", blind))


def test_alone_means_groups_of_one(two_kind_set):
    class Alone(FolderPredictor):
        def read(self, path):
            raise AssertionError("several groups of one image may go through together, but not in this test")

    predictor = Alone(own)
    predictor.fixed_group_size = 1  # every group in a call of its own
    scores = score_alone(predictor, two_kind_set)
    assert {len(g) for g in predictor.groups} == {1} and len(predictor.groups) == len(two_kind_set.images)
    assert scores.headline.P > 0.99


def test_the_command_prints_and_writes_the_measure(checkpoint, two_kind_set, tmp_path, capsys):
    root = two_kind_set.images[0].image.parents[2]
    arguments = [str(checkpoint), "--data", str(root), "--out", str(tmp_path), "--alone", "--device", "cpu"]
    assert main(["group-use", *arguments]) == 0
    printed = capsys.readouterr().out
    record = json.loads((tmp_path / "group_use.json").read_text())
    assert "every image alone (N = 1): P" in printed
    assert record["checkpoint"] == str(checkpoint.resolve()) and record["checkpoint_sha256"]
    assert 0 <= record["alone"]["J"] <= 1
    assert (tmp_path / "wrong.png").is_file()


def test_the_first_of_the_other_images_is_the_reference(two_kind_set):
    predictor = FolderPredictor(own)
    measure_group_use(predictor, two_kind_set, reference=True)
    for group, reference in zip(predictor.groups, predictor.references):
        np.testing.assert_array_equal(reference[1], own(group[1]))


def test_with_a_reference_the_other_images_are_scored(two_kind_set):
    """A predictor that finds its object only where a reference says which."""

    class Follower(FolderPredictor):
        def predict(self, images, reference=None):
            self.truth_of = own if reference else lambda path: np.zeros_like(own(path))
            return super().predict(images, reference)

    without, given = measure_reference(Follower(own), two_kind_set)
    assert (without, given) == (0, 1)


def test_the_command_measures_with_a_reference_also_where_no_image_has_two_kinds(checkpoint, two_kind_set, capsys):
    root = two_kind_set.images[0].image.parents[2]
    words = [str(checkpoint), "--data", str(root), "--reference", "--device", "cpu"]
    assert main(["group-use", *words]) == 0
    said = capsys.readouterr().out
    assert "with the first image's truth" in said and "with a reference: group use" in said
    assert main(["group-use", *words, "--classes", two_kind_set.categories[0]]) == 0
    assert "group use" not in capsys.readouterr().out


def test_the_command_takes_some_of_the_classes(checkpoint, two_kind_set, capsys):
    root = two_kind_set.images[0].image.parents[2]
    kept, *_ = two_kind_set.categories
    assert main(["group-use", str(checkpoint), "--data", str(root), "--classes", kept, "--device", "cpu"]) == 2
    assert "this set has none" in capsys.readouterr().err  # no image stands in two classes when there is one class


def test_the_command_says_in_one_line_that_truth_is_missing(checkpoint, two_kind_set, tmp_path, capsys):
    shutil.copytree(two_kind_set.images[0].image.parents[1], tmp_path / "root" / "image")
    assert main(["group-use", str(checkpoint), "--data", str(tmp_path / "root")]) == 2
    assert capsys.readouterr().err.strip() == "error: group use needs ground truth: the folder groundtruth/ is missing"
