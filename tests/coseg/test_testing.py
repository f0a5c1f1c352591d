"""A whole test set through the test command: maps, names, tables, and what it must refuse."""

import csv
import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageChops, ImageStat

import ssnm
from ssnm.cli import main
from ssnm.coseg.testing import IMAGES_PER_CALL, batches_of, check_out_folder, make_groups, share_of_process
from ssnm.data.testsets import read_test_set
from ssnm.errors import DataError
from ssnm.files.places import find
from ssnm.metrics import score_folder

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def tested(checkpoint, written_set, tmp_path_factory) -> Path:
    """What the test command leaves for the written set. Read only."""
    out = tmp_path_factory.mktemp("tested") / "out"
    assert run_test(checkpoint, written_set, out, "--in-memory") == 0
    return out


def run_test(checkpoint: Path, root: Path, out: Path, *options: str) -> int:
    return main(["test", str(checkpoint), "--dataset", "folder", "--data", str(root), "--out", str(out),
                 "--device", "cpu", *options])


def test_maps_are_grey_pngs_at_original_size_under_class_and_stem(tested, written_set):
    images = sorted((written_set / "image").rglob("*.jpg"))
    maps = sorted(tested.rglob("*.png"))
    wanted = [tested / i.relative_to(written_set / "image").with_suffix(".png") for i in images]
    assert maps == wanted and len(maps) == 12
    for path in maps:
        image = Image.open(path)
        assert (image.mode, image.size) == ("L", (56, 40))


def test_nothing_else_is_named_like_a_map(tested, written_set):
    classes = {p.name for p in (written_set / "image").iterdir()}
    for path in tested.rglob("*"):
        inside = path.relative_to(tested).parts
        if path.suffix in (".png", ".jpg", ".bmp", ".tif") and inside[0] not in classes:
            assert inside[0] == "_overlays" and path.suffix == ".jpg"


def test_overlays_lie_in_a_folder_of_their_own(tested):
    overlays = sorted((tested / "_overlays").rglob("*.jpg"))
    assert [p.stem for p in overlays] == [p.stem for p in sorted(tested.glob("*/*.png"))]
    assert Image.open(overlays[0]).size == (56, 40)


def test_overlays_show_the_masks_that_are_scored(checkpoint, written_set, tmp_path):
    shown = []
    for threshold in ("fixed:0", "fixed:1"):
        assert run_test(checkpoint, written_set, tmp_path / threshold, "--threshold", threshold) == 0
        shown.append(Image.open(next((tmp_path / threshold / "_overlays").rglob("*.jpg"))).convert("RGB"))
    assert ImageStat.Stat(ImageChops.difference(*shown)).mean > [10.0] * 3


def test_maps_are_the_probabilities_that_segment_gives(tested, checkpoint, written_set):
    folder = sorted((written_set / "image").iterdir())[0]
    files = sorted(folder.iterdir())
    group = [*files, files[0]]  # a group of 5, filled up with the first image
    result = ssnm.from_pretrained(checkpoint, "cpu").segment(group)
    for path, probability in zip(files, result.probabilities):
        png = np.asarray(Image.open(tested / folder.name / f"{path.stem}.png")) / 255
        np.testing.assert_allclose(png, probability, atol=0.51 / 255 + 1e-3)


def test_json_and_csv_hold_the_table(tested, written_set):
    scores = json.loads((tested / "scores.json").read_text())
    again = score_folder(tested, written_set, "release")
    assert scores == again.to_dict()
    rows = list(csv.DictReader((tested / "images.csv").open()))
    assert len(rows) == 12
    assert (tested / "scores.csv").is_file() and (tested / "scores_in_memory.json").is_file()


def test_the_run_record_says_what_made_the_maps(tested, written_set, checkpoint):
    record = json.loads((tested / "run.json").read_text())
    assert record["grouping"] == "natural" and record["group_size"] == 5
    assert record["checkpoint"] == str(checkpoint.resolve()) and Path(record["data_root"]) == written_set.resolve()
    assert record["checkpoint_sha256"] == hashlib.sha256(checkpoint.read_bytes()).hexdigest()
    assert record["step"] in (2, 4)
    assert [g["new"] for g in record["groups"]] == [4, 4, 4]
    assert all((written_set / i["image"]).is_file() for g in record["groups"] for i in g["images"])
    spatial = np.load(tested / "spatial_masks.npz")
    assert sorted(spatial.files) == sorted(str(p.relative_to(tested).with_suffix("")) for p in tested.rglob("*.png"))


def test_test_prints_exactly_what_score_prints_on_its_pngs(checkpoint, written_set, tmp_path, capsys):
    assert run_test(checkpoint, written_set, tmp_path / "out") == 0
    printed = capsys.readouterr().out
    assert main(["score", "--pred", str(tmp_path / "out"), "--gt", str(written_set)]) == 0
    table = capsys.readouterr().out.strip()
    assert len(table.splitlines()) > 4
    assert printed.strip().startswith(table)


def test_in_memory_scores_are_printed_beside_those_of_the_pngs(checkpoint, written_set, tmp_path, capsys):
    assert run_test(checkpoint, written_set, tmp_path / "out", "--in-memory") == 0
    assert "in memory, floats at 32x32: P" in capsys.readouterr().out


def test_two_files_of_one_stem_are_an_error(checkpoint, written_set, tmp_path, capsys):
    root = shutil.copytree(written_set, tmp_path / "root")
    first = sorted((root / "image").rglob("*.jpg"))[0]
    Image.open(first).save(first.with_suffix(".bmp"))
    assert run_test(checkpoint, root, tmp_path / "out") == 2
    message = capsys.readouterr().err.strip()
    assert first.name in message and f"{first.stem}.bmp" in message and "\n" not in message
    assert not list((tmp_path).rglob("out/**/*.png"))


@pytest.mark.parametrize("layout", ["image", "groups", "flat"])
def test_without_ground_truth_there_are_maps_and_no_table(layout, checkpoint, written_set, tmp_path, capsys):
    """ROOT/image/<class>/*, ROOT/<group>/*, or ROOT/* as one group."""
    root = tmp_path / "root"
    if layout == "flat":
        shutil.copytree(sorted((written_set / "image").iterdir())[0], root)
    else:
        shutil.copytree(written_set / "image", root / "image" if layout == "image" else root)
    assert run_test(checkpoint, root, tmp_path / "out", "--no-overlays") == 0
    assert "no ground truth, so no table" in capsys.readouterr().out
    maps = sorted(tmp_path.glob("out/*/*.png"))
    assert len(maps) == (4 if layout == "flat" else 12)
    assert {p.parent.name for p in maps} == ({"all"} if layout == "flat" else {p.name for p in root.glob("image/*")}
                                             or {p.name for p in root.iterdir()})
    assert not (tmp_path / "out" / "scores.json").exists() and not (tmp_path / "out" / "_overlays").exists()


def flat_root(written_set: Path, root: Path) -> Path:
    """One class of the set as ROOT/image/* and ROOT/groundtruth/*."""
    name = sorted(p.name for p in (written_set / "image").iterdir())[0]
    for part in ("image", "groundtruth"):
        shutil.copytree(written_set / part / name, root / part)
    return root


def test_images_and_truth_without_class_folders_are_scored_as_one_class(checkpoint, written_set, tmp_path, capsys):
    root = flat_root(written_set, tmp_path / "root")
    assert run_test(checkpoint, root, tmp_path / "out", "--no-overlays") == 0
    assert len(list((tmp_path / "out" / "all").glob("*.png"))) == 4
    printed = capsys.readouterr().out.strip()
    assert main(["score", "--pred", str(tmp_path / "out"), "--gt", str(root)]) == 0
    assert printed.startswith(capsys.readouterr().out.strip())


def test_a_run_is_scored_again_under_any_protocol_and_test_takes_the_same_options(
    checkpoint, tested, written_set, tmp_path, capsys
):
    options = ["--threshold", "0.4", "--resolution", "original", "--empty", "skip", "--average", "classes"]
    assert main(["score", str(tested), *options]) == 0
    again = capsys.readouterr().out.strip()
    assert "p > 0.4; map and truth at the size of the truth; images with empty truth are left out" in again
    assert run_test(checkpoint, written_set, tmp_path / "out", *options) == 0
    assert capsys.readouterr().out.strip().startswith(again)
    assert main(["score", str(tested)]) == 0 and main(["score"]) == 2
    assert run_test(checkpoint, written_set, tmp_path / "other", "--threshold", "2") == 2
    assert not (tmp_path / "other").exists()


def test_classes_may_be_named_as_in_any_data_set(checkpoint, written_set, tmp_path):
    root = tmp_path / "root"
    shutil.copytree(written_set, root)
    first = sorted((root / "image").iterdir())[0].name
    for part in ("image", "groundtruth"):
        (root / part / first).rename(root / part / "Airplane100")
    assert run_test(checkpoint, root, tmp_path / "out", "--classes", "aeroplane") == 0
    assert [p.name for p in (tmp_path / "out").iterdir() if p.is_dir() and p.name[0] != "_"] == ["Airplane100"]
    (tmp_path / "out" / "Airplane100").rename(tmp_path / "out" / "plane")
    words = ["--pred", str(tmp_path / "out"), "--gt", str(root)]
    assert main(["score", *words, "--classes", "airplane"]) == 0


def test_a_relative_data_folder_is_also_looked_up_under_ssnm_data(checkpoint, written_set, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SSNM_DATA", str(written_set.parent))
    assert find(Path(written_set.name)) == written_set
    (tmp_path / written_set.name).mkdir()
    assert find(Path(written_set.name)) == Path(written_set.name)
    assert find(written_set) == written_set and find(Path("absent")) == Path("absent")


@pytest.mark.parametrize("options, words", [
    (["--against", "published"], "no table for folder"),
    (["--repeats", "2", "--in-memory"], "leave out --in-memory"),
    (["--repeats", "2", "--report"], "leave out --report"),
    (["--repeats", "2", "--grouping", "whole"], "leave out --grouping"),
])
def test_options_that_do_not_go_together_are_refused_before_anything_is_predicted(
    options, words, checkpoint, written_set, tmp_path, capsys
):
    assert run_test(checkpoint, written_set, tmp_path / "out", *options) == 2
    assert words in capsys.readouterr().err and not (tmp_path / "out").exists()


def test_repeats_without_ground_truth_are_refused(checkpoint, written_set, tmp_path, capsys):
    assert run_test(checkpoint, written_set / "image", tmp_path / "out", "--repeats", "2") == 2
    assert "ground truth" in capsys.readouterr().err and not (tmp_path / "out").exists()


def test_repeats_shuffle_with_several_seeds_and_print_mean_and_spread(checkpoint, written_set, tmp_path, capsys):
    options = ["--group-size", "3", "--no-overlays"]
    assert run_test(checkpoint, written_set, tmp_path / "out", "--repeats", "2", *options) == 0
    printed = capsys.readouterr().out
    for words in ("seed 0: P", "seed 1: P", "J: mean", "2 shuffled groupings"):
        assert words in printed
    records = [json.loads((tmp_path / "out" / f"_seed_{s}" / "run.json").read_text()) for s in (0, 1)]
    assert records[0]["groups"] != records[1]["groups"]
    written = json.loads((tmp_path / "out" / "repeats.json").read_text())
    scores = [json.loads((tmp_path / "out" / f"_seed_{s}" / "scores.json").read_text()) for s in (0, 1)]
    assert written["seeds"] == [0, 1] and len(written["J"]["values"]) == 2
    assert written["J"]["mean"] == pytest.approx(sum(written["J"]["values"]) / 2)
    assert f"J: mean {100 * written['J']['mean']:.2f}" in printed and scores[0] != scores[1]
    assert run_test(checkpoint, written_set, tmp_path / "out", "--repeats", "1") == 2


def test_grouping_decides_which_images_form_a_group(checkpoint, written_set, tmp_path):
    members = {}
    for grouping in ("natural", "strided", "whole"):
        out = tmp_path / grouping
        options = ["--grouping", grouping, "--group-size", "2", "--no-overlays"]
        assert run_test(checkpoint, written_set, out, *options) == 0
        group = json.loads((out / "run.json").read_text())["groups"][0]
        members[grouping] = [i["name"] for i in group["images"]]
    names = members["whole"]
    assert len(names) == 4
    assert members["natural"] == names[:2] and members["strided"] == names[::2]


def test_classes_restrict_the_test(checkpoint, written_set, tmp_path, capsys):
    first, second, _ = sorted(p.name for p in (written_set / "image").iterdir())
    assert run_test(checkpoint, written_set, tmp_path / "out", "--classes", f"{first},{second}", "--no-overlays") == 0
    assert sorted(p.name for p in (tmp_path / "out").iterdir() if p.is_dir()) == [first, second]
    assert run_test(checkpoint, written_set, tmp_path / "no", "--classes", "unicorn") == 2
    assert "unicorn" in capsys.readouterr().err


def test_files_that_cannot_be_read_are_all_named_in_one_line_before_the_first_map(
    checkpoint, written_set, tmp_path, capsys
):
    root = shutil.copytree(written_set, tmp_path / "root")
    broken = sorted((root / "image").rglob("*.jpg"))[5]
    broken.write_bytes(broken.read_bytes()[:60])
    truths = sorted((root / "groundtruth").rglob("*.png"))[1:3]
    for truth in truths:
        Image.fromarray(np.full((4, 4), 120, np.uint8)).save(truth)  # a grey that is neither side
    assert run_test(checkpoint, root, tmp_path / "out") == 2
    errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error")]
    assert len(errors) == 1 and "3 of" in errors[0] and not (tmp_path / "out").exists()
    assert all(path.name in errors[0] for path in (broken, *truths))


def test_a_photograph_that_exif_turns_is_segmented_the_way_round_in_which_its_truth_was_drawn(
    checkpoint, tmp_path, capsys
):
    exif = Image.Exif()
    exif[274] = 6
    (tmp_path / "image").mkdir(), (tmp_path / "groundtruth").mkdir()
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (40, 60, 3), np.uint8)).save(
        tmp_path / "image" / "a.jpg", exif=exif
    )
    for truth, size in (((40, 60), (60, 40)), ((60, 40), (40, 60))):
        mask = np.zeros(truth, np.uint8)
        mask[10:20, 10:20] = 255
        Image.fromarray(mask).save(tmp_path / "groundtruth" / "a.png")
        assert run_test(checkpoint, tmp_path, tmp_path / "out") == 0
        assert Image.open(tmp_path / "out" / "all" / "a.png").size == size
        assert Image.open(tmp_path / "out" / "_overlays" / "all" / "a.jpg").size == size
    assert "resized" not in capsys.readouterr().out


def test_an_out_folder_with_maps_of_another_run_is_refused(checkpoint, written_set, tmp_path, capsys):
    (tmp_path / "out" / "zebra").mkdir(parents=True)
    Image.new("L", (4, 4)).save(tmp_path / "out" / "zebra" / "a.png")
    assert run_test(checkpoint, written_set, tmp_path / "out") == 2
    assert "zebra" in capsys.readouterr().err
    with pytest.raises(DataError, match="another run"):
        check_out_folder(tmp_path / "out", ["cat"])


def test_processes_share_whole_calls_and_every_group_is_predicted_once(checkpoint, written_set):
    predictor = ssnm.from_pretrained(checkpoint, "cpu").predictor
    groups = make_groups(read_test_set("folder", written_set), 16, "natural")
    calls = list(batches_of(groups, predictor))
    assert [len(c) for c in calls] == [2, 1] and all(sum(len(g.images) for g in c) <= IMAGES_PER_CALL for c in calls)
    shares = [share_of_process(groups, predictor, rank, 2) for rank in range(2)]
    assert all(call in calls for share in shares for call in share) and all(shares)
    assert Counter(group for share in shares for call in share for group in call) == Counter(groups)


@pytest.fixture
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.slow  # .ci/run has a line for it
def test_two_processes_of_torchrun_write_the_bytes_and_scores_of_one(
    checkpoint, written_set, tmp_path, capsys, one_thread
):
    assert run_test(checkpoint, written_set, tmp_path / "one", "--group-size", "16") == 0
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", ROOT / "test.py",
               checkpoint, "--dataset", "folder", "--data", written_set, "--device", "cpu", "--group-size", "16",
               "--out", tmp_path / "two"]
    done = subprocess.run(command, env={**os.environ, "OMP_NUM_THREADS": "1"}, text=True, capture_output=True,
                          timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.replace(str(tmp_path / "two"), "") == capsys.readouterr().out.replace(str(tmp_path / "one"), "")
    files = sorted(p.relative_to(tmp_path / "one") for p in (tmp_path / "one").rglob("*") if p.is_file())
    assert files == sorted(p.relative_to(tmp_path / "two") for p in (tmp_path / "two").rglob("*") if p.is_file())
    differing = [f for f in files if (tmp_path / "one" / f).read_bytes() != (tmp_path / "two" / f).read_bytes()]
    assert {f.name for f in differing} <= {"run.json", "spatial_masks.npz"}  # a time of day in each
    one, two = (np.load(tmp_path / n / "spatial_masks.npz") for n in ("one", "two"))
    assert one.files == two.files and all(np.array_equal(one[k], two[k]) for k in one.files)
