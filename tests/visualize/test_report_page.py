"""The report page as a file: what it holds, that it needs nothing else, what it refuses. No browser."""

import base64
import io
import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from ssnm.cli import main
from ssnm.commands.report import make_report, read_results, write_report
from ssnm.errors import DataError, MissingFileError
from ssnm.metrics import FolderScores
from ssnm.visualize.layers import ImageLayers, _map_layers, image_layers
from ssnm.visualize.records import GroupRecord, ImageFiles, MapRecord, Report, RunRecord
from ssnm.visualize.report import fitting_side, write_page


class Blocks(HTMLParser):
    """The page's scripts by id, its text, and every address it mentions."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.scripts, self.addresses, self.text, self._script, self.open = {}, [], [], None, []
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        values = dict(attributes)
        self.addresses += [values[name] for name in ("src", "href") if values.get(name)]
        if tag == "script":
            self._script = values.get("id", "main")
        if tag not in ("meta", "link", "input", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag
        self._script = None

    def handle_data(self, data):
        if self._script:
            self.scripts[self._script] = self.scripts.get(self._script, "") + data
        else:
            self.text.append(data)

    def json(self, name):
        return json.loads(self.scripts[name])


@pytest.fixture(scope="module")
def page(rising_run, tmp_path_factory):
    return Blocks(write_report(rising_run, out=tmp_path_factory.mktemp("page") / "page.html").read_text())


@pytest.fixture(scope="module")
def comparison(rising_run, other_run, tmp_path_factory):
    out = tmp_path_factory.mktemp("pages") / "two.html"
    return Blocks(write_report(rising_run, other_run, out).read_text())


def decoded(text):
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(text))))


def test_page_names_no_other_file_or_server(page):
    assert [a for a in page.addresses if not a.startswith(("#", "data:"))] == []
    style_and_script = "".join(page.text) + page.scripts["main"]
    assert not re.search(r"https?://|@import|url\(|fetch\(|XMLHttpRequest|import\(", style_and_script)


def test_every_tag_is_closed(page):
    assert page.open == []


def test_page_holds_every_image_with_all_its_layers(page):
    index = page.json("index")
    assert len(index["images"]) == 18
    for number, image in enumerate(index["images"]):
        layers = page.json(f"layers-{number}")
        width, height = image["size"]
        assert decoded(layers["photo"]).shape == (height, width, 3)
        assert decoded(layers["truth"]).shape == (height, width)
        assert decoded(layers["runs"][0]["probability"]).shape == (height, width)
        assert decoded(layers["runs"][0]["mask"]).dtype == bool
        assert layers["runs"][0]["spatial"][:2] == [7, 7]


def test_scores_on_the_page_are_those_of_the_scores_file(page, rising_run):
    scores = FolderScores.from_json(rising_run / "scores.json")
    by_name = {(i["category"], i["name"]): i["J"][0] for i in page.json("index")["images"]}
    assert by_name == {(i.category, i.name): round(i.J, 5) for i in scores.images}
    text = " ".join(page.text)
    for row in scores.classes:
        assert row.category in text and f"{100 * row.J:.1f}" in text
    assert f"{100 * scores.headline.J:.1f}" in text and scores.protocol.describe().split(";")[0].replace(
        ">", ""
    ) in text.replace(">", "")


def test_mask_on_the_page_is_cut_where_it_was_scored(page, rising_run):
    image = page.json("index")["images"][2]
    values = np.asarray(Image.open(rising_run / image["category"] / f"{image['name']}.png")) / 255
    assert (decoded(page.json("layers-2")["runs"][0]["mask"]) == (values > image["threshold"][0])).all()


def test_histogram_counts_every_image_once(rising_run, tmp_path):
    html = write_report(rising_run, out=tmp_path / "page.html").read_text()
    scores = FolderScores.from_json(rising_run / "scores.json")
    counts = [int(n) for n in re.findall(r'aria-label="J \d+ to \d+: (\d+) images?"', html)]
    assert len(counts) == 20 and sum(counts) == 18
    assert counts[18] + counts[19] == sum(i.J >= 0.9 for i in scores.images) > 0


def test_groups_keep_their_members_and_say_who_was_there_before(page):
    groups = page.json("index")["groups"]
    assert [g["fresh"] for g in groups] == [4, 2] * 3
    assert groups[0]["members"] == [0, 1, 2, 3]
    assert groups[1]["members"] == [4, 5, 0, 1]


def test_spatial_masks_of_a_group_share_one_scale(rising_run, tmp_path):
    report = make_report([read_results(rising_run)])
    weak = report.images[1].key
    run = report.runs[0]
    maps = dict(run.maps)
    maps[weak] = MapRecord(maps[weak].path, 0.5, spatial_mask=maps[weak].spatial_mask * 0.1)
    changed = Report("t", report.images, (RunRecord("r", maps, run.groups),))
    levels = Blocks(write_page(changed, tmp_path / "p.html").read_text())
    spread = [
        np.abs(
            np.frombuffer(base64.b64decode(levels.json(f"layers-{n}")["runs"][0]["spatial"][2]), np.uint8) - 127.0
        ).max()
        for n in range(4)
    ]
    assert max(spread) == 127
    assert spread[1] <= 13


def test_same_results_give_the_same_bytes(rising_run, tmp_path):
    first = write_report(rising_run, out=tmp_path / "a.html")
    assert first.read_bytes() == write_report(rising_run, out=tmp_path / "b.html").read_bytes()


def test_comparison_holds_both_runs_and_one_photograph(comparison):
    index, layers = comparison.json("index"), comparison.json("layers-0")
    assert index["runs"] == ["first", "second"]
    assert len(layers["runs"]) == 2 and len(index["images"][0]["J"]) == 2
    assert index["images"][0]["J"][0] > 0.9 and index["images"][0]["J"][1] < 0.5
    assert index["images"][0]["disagreement"] > 0.5
    assert index["images"][1]["disagreement"] == 0


def test_comparison_table_shows_the_difference_with_its_sign(comparison, rising_run, other_run):
    first, second = (FolderScores.from_json(r / "scores.json").headline.J for r in (rising_run, other_run))
    assert f"{100 * (second - first):+.1f}".replace("-", "−") in " ".join(comparison.text)


def test_results_without_ground_truth_give_a_page_without_scores(copied_run, tmp_path):
    record = json.loads((copied_run / "run.json").read_text())
    for group in record["groups"]:
        for image in group["images"]:
            image["truth"] = None
    (copied_run / "run.json").write_text(json.dumps(record))
    (copied_run / "scores.json").unlink()
    (copied_run / "spatial_masks.npz").unlink()
    page = Blocks(write_report(copied_run, out=tmp_path / "page.html").read_text())
    index = page.json("index")
    assert (index["scored"], index["truth"], index["spatial"]) == (False, False, False)
    assert "<table" not in "".join(page.text) and len(index["images"]) == 18


def test_names_with_markup_are_shown_as_text(copied_run, tmp_path, procedural_root):
    record = json.loads((copied_run / "run.json").read_text())
    record["checkpoint"] = "<script>alert(1)&"
    (copied_run / "run.json").write_text(json.dumps(record))
    page = Blocks(write_report(copied_run, out=tmp_path / "page.html").read_text())
    assert record["checkpoint"] in page.text
    assert "alert" not in page.scripts["main"]


def test_index_cannot_end_its_script_whatever_the_names_are(copied_run):
    strange = copied_run.rename(copied_run.with_name("<!--<script>"))
    page = Blocks(write_report(strange).read_text())
    assert "<" not in page.scripts["index"]
    assert page.json("index")["runs"] == ["<!--<script>"]


def test_command_writes_the_page_beside_the_results_and_says_where(copied_run, capsys):
    assert main(["report", str(copied_run)]) == 0
    assert str(copied_run / "report.html") in capsys.readouterr().out
    assert (copied_run / "report.html").stat().st_size > 50_000
    assert [p.name for p in copied_run.iterdir() if p.name.endswith(".part")] == []


def test_moved_test_set_is_named_with_the_remedy_and_found_with_data(copied_run, procedural_root, tmp_path):
    record = json.loads((copied_run / "run.json").read_text())
    (copied_run / "run.json").write_text(json.dumps({**record, "data_root": str(tmp_path / "gone")}))
    with pytest.raises(MissingFileError, match="gone.*--data ROOT"):
        write_report(copied_run)
    assert write_report(copied_run, data=procedural_root).is_file()


def test_folder_that_is_no_results_folder_is_refused(tmp_path, capsys):
    assert main(["report", str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert "no run.json" in error and error.count("\n") == 1


def test_scores_of_other_images_are_refused(copied_run):
    scores = json.loads((copied_run / "scores.json").read_text())
    scores["images"][0]["name"] = "stranger"
    (copied_run / "scores.json").write_text(json.dumps(scores))
    with pytest.raises(DataError, match="stranger.*score again"):
        write_report(copied_run)


def test_missing_map_is_an_error_that_names_it_and_leaves_no_page(copied_run):
    victim = next(copied_run.glob("*/*.png"))
    victim.unlink()
    with pytest.raises(MissingFileError, match=victim.name):
        write_report(copied_run)
    assert not list(copied_run.glob("*report*"))


def test_runs_scored_by_different_protocols_are_not_compared(rising_run, copied_run):
    scores = json.loads((copied_run / "scores.json").read_text())
    scores["protocol"]["resolution"] = None
    (copied_run / "scores.json").write_text(json.dumps(scores))
    with pytest.raises(DataError, match="different protocols"):
        write_report(rising_run, copied_run)


def test_runs_without_a_common_image_are_not_compared(rising_run, copied_run):
    record = json.loads((copied_run / "run.json").read_text())
    for group in record["groups"]:
        group["category"] = "other " + group["category"]
    (copied_run / "run.json").write_text(json.dumps(record))
    (copied_run / "scores.json").unlink()
    with pytest.raises(DataError, match="share no image"):
        write_report(rising_run, copied_run)


def test_images_of_one_run_alone_are_left_out_and_counted_on_the_page(rising_run, copied_run, tmp_path):
    record = json.loads((copied_run / "run.json").read_text())
    del record["groups"][-1]
    (copied_run / "run.json").write_text(json.dumps(record))
    scores = json.loads((copied_run / "scores.json").read_text())
    kept = {(g["category"], i["name"]) for g in record["groups"] for i in g["images"]}
    scores["images"] = [i for i in scores["images"] if (i["category"], i["name"]) in kept]
    (copied_run / "scores.json").write_text(json.dumps(scores))
    page = Blocks(write_report(rising_run, copied_run, tmp_path / "page.html").read_text())
    assert len(page.json("index")["images"]) == 16
    assert "not in the other run: 2 images of first" in " ".join(page.text)


def test_damaged_spatial_masks_are_an_error_of_one_line(copied_run):
    (copied_run / "spatial_masks.npz").write_bytes(b"PK not an archive")
    with pytest.raises(DataError, match="spatial_masks.npz: cannot be read"):
        write_report(copied_run)


def test_thumbnails_shrink_where_the_page_would_grow_too_large(rising_run):
    report = make_report([read_results(rising_run)])

    def make(index, side):
        return ImageLayers((480, 360), {"photo": "x" * 10_000}, None)

    ample, tight = fitting_side(report, make, 18 * 11_000), fitting_side(report, make, 18 * 10_000 // 4)
    assert (ample, fitting_side(report, make, 10)) == (480, 96)
    assert tight == pytest.approx(240, abs=2)


def test_thumbnails_are_never_enlarged_and_keep_their_shape(procedural_root, rising_run):
    report = make_report([read_results(rising_run)])
    files, record = report.images[0], report.runs[0].maps[report.images[0].key]
    assert image_layers(files, [record], [1.0], side=480).size == (96, 72)
    assert image_layers(files, [record], [1.0], side=48).size == (48, 36)


def test_a_large_photograph_is_read_reduced_and_looks_the_same(tmp_path):
    rows, columns = np.mgrid[:900, :1600]
    photo = np.stack([rows // 4, columns // 7, (rows + columns) // 10], 2).astype(np.uint8)
    Image.fromarray(photo).save(tmp_path / "a.jpg", quality=95)
    Image.fromarray(np.zeros((9, 16), np.uint8)).save(tmp_path / "m.png")
    sizes, load = [], Image.Image.load

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Image.Image, "load", lambda self: (sizes.append(self.size), load(self))[1])
        made = image_layers(ImageFiles("c", "a", tmp_path / "a.jpg"), [MapRecord(tmp_path / "m.png", 0.5)], [1.0], 160)
    assert made.size == (160, 90) and max(sizes) == (800, 450)
    shown = Image.open(io.BytesIO(base64.b64decode(made.layers["photo"])))
    whole = Image.fromarray(photo).resize((160, 90), Image.Resampling.LANCZOS)
    assert shown.size == (160, 90) and np.abs(np.asarray(shown, int) - np.asarray(whole, int)).mean() < 2


def test_report_without_images_or_with_unknown_members_is_refused(tmp_path):
    image, record = ImageFiles("cat", "a", tmp_path), MapRecord(tmp_path, 0.5)
    with pytest.raises(DataError, match="at least one image"):
        Report("t", (), (RunRecord("r", {}, ()),))
    with pytest.raises(DataError, match="cat/a: no map"):
        Report("t", (image,), (RunRecord("r", {}, ()),))
    with pytest.raises(DataError, match="cat/b: a member"):
        Report("t", (image,), (RunRecord("r", {"cat/a": record}, (GroupRecord("cat", ("cat/b",), 1),)),))
    with pytest.raises(DataError, match="two images"):
        Report("t", (image, image), (RunRecord("r", {"cat/a": record}, ()),))


def test_a_value_equal_to_the_threshold_is_not_in_the_mask_of_the_page(tmp_path):
    Image.fromarray(np.array([[100, 101]], dtype=np.uint8)).save(tmp_path / "m.png")
    record = MapRecord(tmp_path / "m.png", 100 / 255, None, None, None, 255)
    assert _map_layers(record, 1.0, (2, 1))[1].tolist() == [[False, True]]


def test_the_notes_of_the_scores_stand_on_the_page(copied_run):
    stored = json.loads((copied_run / "scores.json").read_text())
    (copied_run / "scores.json").write_text(json.dumps(stored | {"resized": 2}))
    report = make_report([read_results(copied_run)])
    scores = FolderScores.from_json(copied_run / "scores.json")
    assert scores.notes() and all(f"{copied_run.name}: {note}" in report.notes for note in scores.notes())
