"""The model that is shipped in the package: its size, its card, and floors on real photographs."""

import numpy as np
import pytest
import torch

import ssnm
from ssnm.cli import main
from ssnm.coseg.group_use import measure_group_use, measure_spatial_auc
from ssnm.coseg.testing import select_classes
from ssnm.data.procedural import ProceduralSource
from ssnm.data.testsets import read_test_set
from ssnm.engine.checkpoint import load_model_file
from ssnm.metrics import FolderScores
from ssnm.pretrained import SHIPPED as SHIPPED_MODELS

CLASSES = ("aeroplane", "bus", "cat", "sheep")
FLOOR_J = 0.72  # release protocol, on CLASSES
FLOOR_GROUP_USE = 0.75  # on all two-kind images of the set
FLOOR_SPATIAL_AUC = 0.75  # on CLASSES
MEGABYTES = 12
SHIPPED = SHIPPED_MODELS["default"]
CARD = ("data", "steps", "seed", "licence", "limits")

pytestmark = pytest.mark.skipif(not SHIPPED.is_file(), reason=f"{SHIPPED.name} is not in this checkout")


@pytest.fixture(scope="module")
def segmenter():
    return ssnm.from_pretrained(device="cpu")


@pytest.fixture
def voc_coseg(ssnm_data):
    root = ssnm_data / "VOC_coseg_FaktorIrani"
    if not root.is_dir():
        pytest.skip(f"{root.name} is not under SSNM_DATA")
    return root


def test_it_is_small_enough_for_a_package():
    assert SHIPPED.stat().st_size <= MEGABYTES * 1e6


def test_its_card_says_what_a_user_must_know():
    file = load_model_file(SHIPPED)
    missing = [field for field in CARD if not any(field in key for key in file.card)]
    assert missing == [] and all(value not in ("", None) for value in file.card.values())
    assert file.config["model"]["backbone"]["name"] == "tf_efficientnet_b0"
    assert len(set(file.inference["labels"])) == len(file.inference["labels"]) > 20


def test_it_is_the_default_and_segments(segmenter):
    source = ProceduralSource(num_images=3, seed=1)
    images = [source.render(i, (60 + i, 80))[0] for i in range(3)]
    result = segmenter.segment(images)
    assert [m.shape for m in result.masks] == [i.shape[:2] for i in images]
    assert all(np.isfinite(p).all() for p in result.probabilities)
    assert segmenter.path == ssnm.from_pretrained("default", "cpu").path == SHIPPED
    assert result.present.shape == (3,) and 0 <= result.present.min() and result.present.max() <= 1
    assert segmenter.segment(images[:1]).present.tolist() == [1.0]


def test_its_spatial_masks_are_alive(segmenter):
    """Version 0.1's were not: an eigenvalue of 0.976 of the count is a collapse (docs/spatial_modulator.md)."""
    source = ProceduralSource(num_images=5, seed=1)
    stack = torch.stack([segmenter.predictor.read(source.render(i, (80, 80))[0])[0] for i in range(5)])
    with torch.inference_mode():
        network = segmenter.predictor.model
        modulation = network.modulate(network.encode(network.backbone(stack / 255)), 5)
    assert 0.01 < float(modulation.eigenvalue) / modulation.spatial_mask[0].numel() < 0.5


@pytest.mark.real_data
@pytest.mark.slow
def test_it_holds_the_floor_of_j_on_four_classes_of_photographs(voc_coseg, tmp_path):
    arguments = ["--dataset", "pascal_voc", "--data", str(voc_coseg), "--out", str(tmp_path / "out")]
    assert main(["test", "default", *arguments, "--classes", ",".join(CLASSES), "--no-overlays"]) == 0
    scores = FolderScores.from_json(tmp_path / "out" / "scores.json")
    assert sorted(c for c, *_ in scores.per_class()) == sorted(CLASSES)
    assert scores.headline.J >= FLOOR_J


@pytest.mark.real_data
@pytest.mark.slow
def test_it_holds_the_floor_of_group_use_on_all_two_kind_photographs(voc_coseg, segmenter):
    use = measure_group_use(segmenter.predictor, read_test_set("pascal_voc", voc_coseg)).use
    assert len(use.records) > 50
    assert use.share >= FLOOR_GROUP_USE


@pytest.mark.real_data
@pytest.mark.slow
def test_its_spatial_masks_find_objects_on_photographs(voc_coseg, segmenter):
    test_set = select_classes(read_test_set("pascal_voc", voc_coseg), CLASSES)
    assert measure_spatial_auc(segmenter.predictor, test_set) >= FLOOR_SPATIAL_AUC
