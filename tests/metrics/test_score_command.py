"""``ssnm score`` from its arguments to its output and files."""

import argparse
import json

import numpy as np
import pytest

from ssnm.commands import score
from ssnm.errors import ConfigError, MissingPackageError
from ssnm.metrics import FolderScores, cosal_folder, score_folder


def run(*words):
    parser = argparse.ArgumentParser()
    score.add_arguments(parser)
    return score.run(parser.parse_args([str(w) for w in words]))


def test_it_prints_the_table_of_score_folder(small_set, capsys):
    assert run("--pred", small_set / "pred", "--gt", small_set / "gt") == 0
    assert capsys.readouterr().out.rstrip() == score_folder(small_set / "pred", small_set / "gt").table()


def test_options_change_the_protocol_and_its_name(small_set, capsys):
    run("--pred", small_set / "pred", "--gt", small_set / "gt", "--threshold", "fixed:0.5", "--resolution", "original",
        "--empty", "skip", "--average", "classes", "--classes", "cat")  # fmt: skip
    first = capsys.readouterr().out.splitlines()[0]
    assert first == (
        "protocol release, changed: p > 0.5; map and truth at the size of the truth; "
        "images with empty truth are left out; headline: average over classes"
    )


def test_it_writes_all_files_and_the_json_reads_back(small_set, capsys):
    out = small_set / "out"
    run("--pred", small_set / "pred", "--gt", small_set / "gt", "--out", out, "--protocol", "pooled")
    written = {p.name for p in out.iterdir()}
    assert written == {"curve.csv", "images.csv", "scores.csv", "scores.json", "scores.md"}
    assert FolderScores.from_json(out / "scores.json") == score_folder(small_set / "pred", small_set / "gt", "pooled")
    assert len((out / "curve.csv").read_text().splitlines()) == 257


def test_scoring_twice_writes_identical_files(small_set, capsys):
    for name in ("one", "two"):
        run("--pred", small_set / "pred", "--gt", small_set / "gt", "--out", small_set / name)
    for file in (small_set / "one").iterdir():
        assert file.read_bytes() == (small_set / "two" / file.name).read_bytes()


def test_against_published_adds_the_papers_table(tmp_path, save, capsys):
    truth = np.zeros((20, 20), bool)
    truth[4:15, 5:12] = True
    for name in ("airplane", "car", "horse"):
        save(tmp_path / "gt" / name / "1.png", truth)
        save(tmp_path / "pred" / name / "1.png", truth)
    run("--pred", tmp_path / "pred", "--gt", tmp_path / "gt", "--against", "published", "--protocol", "paper",
        "--name", "copy of the truth", "--out", tmp_path / "out")  # fmt: skip
    printed = capsys.readouterr().out
    assert "Table 2, Internet" in printed
    ours = next(line for line in printed.splitlines() if line.startswith("copy of the truth [paper]"))
    assert ours.split()[-6:] == ["100.0"] * 6
    assert json.loads((tmp_path / "out" / "published.json").read_text())["dataset"] == "internet"


def test_the_curve_is_printed_on_request(small_set, capsys):
    run("--pred", small_set / "pred", "--gt", small_set / "gt", "--curve")
    assert "mean J at a fixed threshold" in capsys.readouterr().out


@pytest.mark.parametrize(
    "words, message",
    [
        (["--resolution", "big"], "--resolution 'big'"),
        (["--resolution", "0"], "resolution 0"),
        (["--threshold", "otsu"], "threshold 'otsu'"),
        (["--workers", "0"], "--workers 0"),
        (["--dataset", "msrc"], "--against published"),
        (["--against", "published"], "no published table has exactly the classes cat, cow"),
        (["--classes", "cat,dog"], "class 'dog'"),
    ],
)
def test_wrong_options_are_one_line_errors(small_set, words, message):
    with pytest.raises(ConfigError) as error:
        run("--pred", small_set / "pred", "--gt", small_set / "gt", *words)
    assert message in str(error.value) and "\n" not in str(error.value)


def test_cosal_without_its_package_says_how_to_get_it(small_set, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "py_sod_metrics", None)
    with pytest.raises(MissingPackageError, match=r"pip install -e .*cosal"):
        run("--pred", small_set / "pred", "--gt", small_set / "gt", "--cosal")


def test_cosal_measures_of_perfect_and_inverted_maps(tmp_path, save, capsys):
    pytest.importorskip("py_sod_metrics", reason="the optional extra ssnm[cosal] is not installed")
    truth = np.zeros((40, 60), bool)
    truth[10:30, 15:40] = True
    save(tmp_path / "gt" / "c" / "a.png", truth)
    save(tmp_path / "pred" / "c" / "a.png", truth)
    save(tmp_path / "inverted" / "c" / "a.png", ~truth)
    perfect, inverted = (cosal_folder(tmp_path / name, tmp_path / "gt") for name in ("pred", "inverted"))
    assert (perfect.MAE, inverted.MAE) == (0, 1)
    assert perfect.S == pytest.approx(1, abs=1e-6) and perfect.max_F == pytest.approx(1)
    assert perfect.max_E == pytest.approx(1, abs=1e-3)
    assert inverted.S < 0.1 and inverted.mean_F < 0.3 < perfect.mean_F
    run("--pred", tmp_path / "pred", "--gt", tmp_path / "gt", "--cosal", "--out", tmp_path / "out")
    assert "S-measure" in capsys.readouterr().out
    assert json.loads((tmp_path / "out" / "cosal.json").read_text())["count"] == 1


def test_the_adaptive_f_measure_weighs_precision_by_beta_squared_of_0_3(tmp_path, save):
    pytest.importorskip("py_sod_metrics", reason="the optional extra ssnm[cosal] is not installed")
    truth, found = np.zeros((2, 40, 60), bool)
    truth[10:30, 10:40], found[10:30, 20:50] = True, True  # a third of either is outside the other
    truth[0:10, 0:30] = True  # half as much again is missed
    save(tmp_path / "gt" / "c" / "a.png", truth)
    save(tmp_path / "pred" / "c" / "a.png", found)
    right, P, R = 20 * 20, 20 * 20 / (20 * 30), 20 * 20 / (20 * 30 + 10 * 30)
    assert right == (truth & found).sum()
    wanted = 1.3 * P * R / (0.3 * P + R)
    assert cosal_folder(tmp_path / "pred", tmp_path / "gt").adaptive_F == pytest.approx(wanted, abs=1e-6)
