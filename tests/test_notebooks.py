"""The notebooks: they run top to bottom, and what is stored in them may be shown to anyone."""

import importlib.util
import json
import os
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ssnm.pretrained import SHIPPED

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOKS = ("segment_your_photos", "evaluate_and_compare", "follow_objects", "find_instances")
LARGEST_FILE = 1_500_000
HOME_OR_SCRATCH = re.compile(r"(?<![\w.])/(home|root|tmp|work|Users|var)/")


def stored(name: str) -> dict:
    return json.loads((ROOT / "notebooks" / f"{name}.ipynb").read_text())


def code_cells(notebook: dict) -> list[dict]:
    return [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]


def printed(notebook: dict) -> str:
    outputs = [output for cell in code_cells(notebook) for output in cell["outputs"]]
    return "".join("".join(output["text"]) for output in outputs if output["output_type"] == "stream")


def pictures(notebook: dict) -> int:
    outputs = [output for cell in code_cells(notebook) for output in cell["outputs"]]
    return sum("image/jpeg" in output.get("data", {}) for output in outputs)


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_every_cell_was_executed_once_in_order_and_without_error(name):
    cells = code_cells(stored(name))
    assert [cell["execution_count"] for cell in cells] == list(range(1, len(cells) + 1))
    assert not [o for cell in cells for o in cell["outputs"] if o["output_type"] == "error"]


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_a_stored_notebook_shows_pictures_in_a_small_file_without_machine_paths(name):
    assert pictures(stored(name)) >= 3
    assert (ROOT / "notebooks" / f"{name}.ipynb").stat().st_size < LARGEST_FILE
    assert HOME_OR_SCRATCH.findall(printed(stored(name))) == []


def test_stored_outputs_show_no_photograph():
    """The one cell that reads photographs was executed without any; the other notebook drew its pictures."""
    assert "no real photographs" in printed(stored("evaluate_and_compare"))
    assert "picture_1.png" in printed(stored("segment_your_photos"))


@pytest.fixture(scope="module")
def builder():
    """scripts/build_notebooks.py, or a skipped test where a notebook cannot be executed."""
    for package in ("nbformat", "nbclient", "ipykernel"):
        pytest.importorskip(package, reason=f"{package} is not installed: pip install -e '.[notebooks]'")
    spec = importlib.util.spec_from_file_location("build_notebooks", ROOT / "scripts" / "build_notebooks.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def model() -> str:
    """The word default for the shipped model, or the file that SSNM_MODEL names."""
    file = os.environ.get("SSNM_MODEL", "default")
    if file == "default" and not SHIPPED["default"].is_file():
        pytest.skip("the shipped model is not in this checkout; name one with SSNM_MODEL")
    return file


@pytest.mark.notebooks
def test_segment_your_photos_runs_and_saves_a_mask_for_every_picture(builder, model, tmp_path):
    notebook = builder.execute("segment_your_photos", tmp_path, model)
    out = tmp_path / "results" / "segment_your_photos"
    names = {path.stem for path in (out / "masks").iterdir()}
    assert names == {f"picture_{i}" for i in range(1, 7)}
    for folder in ("probabilities", "overlays", "cutouts"):
        assert {path.stem for path in (out / folder).iterdir()} == names
    for name in names:
        mask = np.asarray(Image.open(out / "masks" / f"{name}.png")) == 255
        alpha = np.asarray(Image.open(out / "cutouts" / f"{name}.png"))[..., 3] == 255
        assert np.array_equal(mask, alpha)
    assert "threshold mean+std" in printed(notebook) and "quality" in printed(notebook)


@pytest.mark.notebooks
def test_evaluate_and_compare_runs_and_a_short_training_makes_masks_follow_the_group(builder, model, tmp_path):
    """Also on real photographs, where SSNM_DATA names some."""
    data = os.environ.get("SSNM_DATA")
    text = printed(builder.execute("evaluate_and_compare", tmp_path, model, data))
    use = re.search(r"checkpoint group use ([\d.]+) .*own ([\d.]+), other ([\d.]+)", text)
    share, own, other = map(float, use.groups())
    assert share > 60 and own > other + 10
    assert float(re.search(r"largest change of gamma (\S+),", text).group(1)) < 1e-4
    assert ("no real photographs" in text) is (data is None)


@pytest.mark.notebooks
def test_find_instances_runs_and_finds_objects_without_labels(builder, tmp_path):
    pytest.importorskip("skimage")
    text = printed(builder.execute("find_instances", tmp_path))
    assert float(re.search(r"AP at 0.25 ([\d.]+)", text).group(1)) > 0.3 and "prior trained: no" in text
    out = tmp_path / "results" / "find_instances"
    assert len(list((out / "overlays").iterdir())) == 4 and (out / "instances.json").is_file()


@pytest.mark.notebooks
def test_follow_objects_runs_and_beats_the_first_mask_copied(builder, tmp_path):
    if not SHIPPED["video"].is_file():
        pytest.skip("the shipped video model is not in this checkout")
    text = printed(builder.execute("follow_objects", tmp_path))
    scores = re.findall(r"object \d+: J ([\d.]+), the first mask copied ([\d.]+)", text)
    assert len(scores) == 2 and all(float(ours) > float(copied) for ours, copied in scores)
    assert len(list((tmp_path / "results" / "follow_objects").glob("*.png"))) == 10


def test_tidying_keeps_one_format_of_a_picture_and_drops_progress_bars_and_widgets(builder):
    import nbformat.v4 as v4

    widget = {builder.WIDGET_VIEW: {"model_id": "0"}, "text/plain": "FileUpload()"}
    both = {"image/png": "p", "image/jpeg": "j", "text/plain": "an image"}
    cell = v4.new_code_cell("1", metadata={"execution": {}}, outputs=[
        v4.new_output("stream", name="stderr", text="50 %"),
        v4.new_output("stream", name="stdout", text="kept"),
        v4.new_output("display_data", data=widget),
        v4.new_output("display_data", data=both),
    ])
    (tidied,) = builder.tidy(v4.new_notebook(cells=[cell], metadata={"widgets": {}})).cells
    assert [o.get("text") for o in tidied.outputs] == ["kept", None]
    assert set(tidied.outputs[1].data) == {"image/jpeg", "text/plain"} and tidied.metadata == {}


def test_the_builder_refuses_a_notebook_that_does_not_exist(builder, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["build_notebooks.py", "unheard_of"])
    with pytest.raises(SystemExit) as stop:
        builder.main()
    assert stop.value.code == 2
    assert "no notebook 'unheard_of'; there are segment_your_photos" in capsys.readouterr().err
