"""The paper's tables with our rows beside them."""

import hashlib
import json

import numpy as np
import pytest

from ssnm.errors import ConfigError, MissingFileError
from ssnm.facts import load_facts, published_results
from ssnm.metrics import PROTOCOLS, compare_with_published, score_arrays


def scores_for(classes, protocol="paper"):
    """One image per class; the k-th class has J = 1 / (k + 1)."""
    images = []
    for k, name in enumerate(classes):
        truth = np.zeros((1, 40), bool)
        truth[0, 0] = True
        prob = np.zeros((1, 40))
        prob[0, : k + 1] = 1.0
        images.append((name, "x", prob, truth))
    return score_arrays(images, PROTOCOLS[protocol].changed(rule=PROTOCOLS["ufo"].rule))


@pytest.mark.parametrize("dataset, columns", [("msrc", 2), ("internet", 6), ("icoseg", 9), ("pascal_voc", 22)])
def test_the_table_is_found_by_its_classes_and_our_row_comes_last(dataset, columns):
    facts = published_results()[dataset]
    comparison = compare_with_published({"mine": scores_for(facts["classes"])})
    assert comparison.dataset == dataset
    assert len(comparison.columns) == columns
    assert [row.ours for row in comparison.rows] == [False] * len(facts["rows"]) + [True]
    assert {len(row.values) for row in comparison.rows} == {columns}


def test_internet_car_of_hrnet_is_the_corrected_number():
    comparison = compare_with_published({"mine": scores_for(["airplane", "car", "horse"])})
    hrnet = next(row for row in comparison.rows if row.method == "SSNM HRNet")
    assert dict(zip(comparison.columns, hrnet.values, strict=True))["car J"] == 73.9
    assert any("73.9" in note and "82.5" in note for note in comparison.notes)


def test_class_names_are_compared_by_meaning():
    raw = compare_with_published({"mine": scores_for(["Car100", "Airplane100", "Horse100"])})
    assert raw.dataset == "internet"
    by_column = dict(zip(raw.columns, raw.rows[-1].values, strict=True))
    assert by_column["car J"] == 100 and by_column["airplane J"] == 50  # our order of classes does not matter


def test_our_values_are_in_percent_under_the_right_class():
    classes = published_results()["pascal_voc"]["classes"]
    scores = scores_for(classes)
    row = compare_with_published({"mine": scores}).rows[-1]
    assert row.values[0] == pytest.approx(100 * scores.headline.P, abs=1e-3)
    assert row.values[1] == pytest.approx(100 * scores.headline.J, abs=1e-3)
    assert row.values[2:] == pytest.approx([100 / (k + 1) for k in range(20)], abs=1e-3)


def test_means_over_a_part_of_the_classes_are_not_shown():
    part = scores_for(["aeroplane", "dog"])
    with pytest.raises(ConfigError, match="--dataset"):
        compare_with_published({"mine": part})
    row = compare_with_published({"mine": part}, "pascal_voc").rows[-1]
    assert row.values[:4] == (None, None, 100, None) and row.values[13] == 50


def test_foreign_classes_and_unknown_tables_are_refused():
    with pytest.raises(ConfigError, match="'unicorn' is not in Table 1"):
        compare_with_published({"mine": scores_for(["unicorn"])}, "msrc")
    with pytest.raises(ConfigError, match="choose one of msrc"):
        compare_with_published({"mine": scores_for(["cat"])}, "coco")
    with pytest.raises(ConfigError, match="no scores"):
        compare_with_published({})


def test_published_digits_are_kept_and_missing_values_are_dashes():
    comparison = compare_with_published({"mine": scores_for(published_results()["pascal_voc"]["classes"])})
    quan = next(line for line in comparison.table().splitlines() if line.startswith("Quan"))
    assert quan.split()[4:7] == ["89.0", "52", "-"]
    assert max(map(len, comparison.table().splitlines()[1:-1])) <= 110


def test_it_is_written_as_json_csv_and_markdown(tmp_path):
    comparison = compare_with_published({"mine": scores_for(["airplane", "car", "horse"], "release")})
    json_file, csv_file, markdown = comparison.write(tmp_path)
    assert json.loads(json_file.read_text())["rows"][-1]["method"] == "mine [release, changed]"
    assert csv_file.read_text().splitlines()[0] == "method,airplane P,airplane J,car P,car J,horse P,horse J"
    assert "| **mine [release, changed]** |" in markdown.read_text()


def test_facts_that_are_not_there_are_named():
    with pytest.raises(MissingFileError, match="no facts named 'nothing'.*published"):
        load_facts("nothing")


@pytest.mark.parametrize("method, printed, over_images, over_classes", [
    ("SSNM VGG16", 66, 65.7, 64.1), ("SSNM HRNet", 71, 69.5, 68.0)])  # fmt: skip
@pytest.mark.real_data
def test_the_voc_means_stated_in_the_docs(real_truth, method, printed, over_images, over_classes):
    facts = published_results()["pascal_voc"]
    row = next(row for row in facts["rows"] if row["method"] == method)
    counts = [len(list((real_truth / name).iterdir())) for name in facts["classes"]]
    assert sum(counts) == facts["images"] and row["J"] == printed
    assert np.average(row["per_class"], weights=counts) == pytest.approx(over_images, abs=0.06)
    assert np.mean(row["per_class"]) == pytest.approx(over_classes, abs=0.06)


def test_no_digit_of_the_published_tables_has_changed():
    """They were compared with the paper once; a figure that is corrected changes this line too."""
    content = json.dumps(published_results(), sort_keys=True).encode()
    assert hashlib.sha256(content).hexdigest()[:16] == "a394471026897a5c"
