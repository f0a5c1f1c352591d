"""The summary of groups with a foreign image."""

import math

import pytest

from ssnm.errors import DataError
from ssnm.metrics import OutlierRecord, Outliers


def test_the_summary_counts_lost_points_noticed_and_masked_images():
    records = [
        OutlierRecord("cat", 0.8, 0.7, 0.30, (0.9, 0.8, 0.1)),
        OutlierRecord("dog", 0.6, 0.6, 0.005, (0.7, 0.05, 0.2)),
    ]
    found = Outliers.of(records)
    assert found.lost == pytest.approx(0.05) and found.J_clean == pytest.approx(0.7)
    assert found.masked == 0.5
    # members 0.9, 0.8, 0.7, 0.05 against foreign 0.1, 0.2: six of eight pairs
    assert found.present_auc == pytest.approx(6 / 8)
    assert "lose 5.0 points of J" in found.describe() and "50.0 % of the foreign images" in found.describe()


def test_a_model_without_the_figure_has_no_auc():
    found = Outliers.of([OutlierRecord("cat", 0.8, 0.7, 0.3, None)])
    assert math.isnan(found.present_auc) and "present" not in found.describe()
    assert found.to_dict()["present_auc"] is None


def test_no_group_is_an_error():
    with pytest.raises(DataError, match="two categories or more"):
        Outliers.of([])
