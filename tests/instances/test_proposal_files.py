"""Proposals of others come in as masks, whatever file they lie in; damaged ones are one clear line."""

import json

import numpy as np
import pytest
from PIL import Image

from ssnm.data.coco_results import encode_mask
from ssnm.errors import DataError, MissingFileError
from ssnm.instances.proposal_files import StoredProposals, fitted_to, masks_of_entries, read_mat

MASKS = np.random.default_rng(0).random((3, 5, 7)) > 0.5


def test_coco_results_of_all_images_are_found_by_id_name_and_image_list(tmp_path):
    entries = [{"image_id": i, "segmentation": encode_mask(m)} for i, m in zip((139, "dog", 139), MASKS)]
    (tmp_path / "all.json").write_text(json.dumps(entries))
    stored = StoredProposals(tmp_path / "all.json", ["a/000000000139.jpg", "dog.png"])
    assert (stored[0] == MASKS[[0, 2]]).all() and (stored[1] == MASKS[[1]]).all() and len(stored) == 2
    document = {"images": [{"id": 139, "file_name": "x/cat.jpg"}], "annotations": entries[:1]}
    (tmp_path / "coco.json").write_text(json.dumps(document))
    assert (StoredProposals(tmp_path / "coco.json", ["cat.jpg"])[0] == MASKS[:1]).all()


def test_sams_list_of_dicts_is_read_with_run_lengths_and_with_arrays(tmp_path):
    dicts = [{"segmentation": encode_mask(m), "area": int(m.sum()), "predicted_iou": 0.9} for m in MASKS]
    (tmp_path / "dog.json").write_text(json.dumps(dicts))
    assert (StoredProposals(tmp_path, ["dog.jpg"])[0] == MASKS).all()
    assert (masks_of_entries([{"segmentation": m} for m in MASKS], "here") == MASKS).all()


@pytest.mark.parametrize("pattern", ["dog/{}.png", "dog_{}.png"])
def test_a_folder_of_masks_is_read_in_natural_order(tmp_path, pattern):
    (tmp_path / "dog").mkdir()
    for number, mask in zip((10, 2, 1), MASKS):
        Image.fromarray(mask.astype(np.uint8) * 255).save(tmp_path / pattern.format(number))
    assert (StoredProposals(tmp_path, ["dog.jpg"])[0] == MASKS[::-1]).all()


def test_matlab_files_of_both_kinds_are_read(tmp_path):
    h5py, io = pytest.importorskip("h5py"), pytest.importorskip("scipy.io")
    matlab = np.moveaxis(MASKS, 0, 2)  # h x w x M
    io.savemat(tmp_path / "old.mat", {"masks": matlab, "scores": np.ones(3)})
    with h5py.File(tmp_path / "new.mat", "w", userblock_size=512) as file:  # as MATLAB 7.3 lays it out
        file["masks"] = matlab.T.astype(np.uint8)
    for name in ("old", "new"):
        assert (read_mat(tmp_path / f"{name}.mat") == MASKS).all()
    io.savemat(tmp_path / "single.mat", {"masks": matlab[..., 0]})
    assert (read_mat(tmp_path / "single.mat") == MASKS[:1]).all()
    with pytest.raises(DataError, match="no variable 'masks'"):
        io.savemat(tmp_path / "other.mat", {"scores": np.ones(3)})
        read_mat(tmp_path / "other.mat")


def test_a_file_that_is_no_matlab_file_is_one_line(tmp_path):
    pytest.importorskip("scipy.io")
    (tmp_path / "dog.mat").write_bytes(b"<html>not found</html>" * 40)
    with pytest.raises(DataError, match="dog.mat: cannot be read as a MATLAB file"):
        StoredProposals(tmp_path, ["dog"])[0]


def test_missing_proposals_are_said_before_anything_is_computed(tmp_path):
    with pytest.raises(MissingFileError, match="no such file or folder"):
        StoredProposals(tmp_path / "none", ["dog"])
    with pytest.raises(MissingFileError, match="no proposals of image dog"):
        StoredProposals(tmp_path, ["dog"])
    (tmp_path / "all.json").write_text("[]")
    with pytest.raises(MissingFileError, match="0012 or 12"):
        StoredProposals(tmp_path / "all.json", ["0012"])


@pytest.mark.parametrize(
    "entries, words",
    [
        ([{"segmentation": [[1, 2, 3, 4, 5, 6]]}], "polygons"),
        ([{"segmentation": {"size": [2, 2], "counts": [1, 2]}}], "sum to 3"),
        ([{"segmentation": {"size": [2, 2], "counts": "zz~"}}], "no run lengths"),
        (["dog"], "run lengths"),
        ([{"segmentation": np.ones((2, 2))}, {"segmentation": np.ones((3, 2))}], "must agree"),
    ],
)
def test_damaged_entries_are_one_line(entries, words):
    with pytest.raises(DataError, match=words):
        masks_of_entries(entries, "here")


def test_proposals_are_brought_to_another_size_by_nearest_neighbour():
    doubled = fitted_to(MASKS, (10, 14))
    assert (doubled == MASKS.repeat(2, axis=1).repeat(2, axis=2)).all()
    assert fitted_to(np.zeros((0, 0, 0), dtype=bool), (4, 5)).shape == (0, 4, 5)
