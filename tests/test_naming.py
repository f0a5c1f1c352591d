"""Category names that mean the same, and the order of files."""

import pytest

from ssnm.naming import SYNONYMS, canonical_category, counted, natural_key, printable


@pytest.mark.parametrize(
    "names",
    [
        ("aeroplane", "airplane", "Plane"),
        ("diningtable", "dining table", "Dining_Table"),
        ("sofa", "couch"),
        ("tvmonitor", "tv", "TV monitor"),
        ("motorbike", "motorcycle"),
        ("pottedplant", "potted plant", "  potted   plant "),
    ],
)
def test_voc_and_coco_names_of_a_category_are_one(names):
    assert len({canonical_category(name) for name in names}) == 1


def test_a_canonical_name_is_its_own_canonical_name():
    assert all(canonical_category(name) == name for name in SYNONYMS.values())


def test_other_names_stay_apart():
    assert len({canonical_category(name) for name in ("cat", "cow", "car", "train")}) == 4


def test_numbers_sort_by_value_and_not_by_digit():
    assert sorted(["img_10", "img_2", "img_1"], key=natural_key) == ["img_1", "img_2", "img_10"]


def test_names_that_begin_with_numbers_and_letters_can_be_compared():
    assert sorted(["a1", "10", "2b", "2", ""], key=natural_key) == ["", "2", "2b", "10", "a1"]


def test_leading_zeros_do_not_make_the_order_depend_on_the_input():
    assert sorted(["x01", "x1"], key=natural_key) == sorted(["x1", "x01"], key=natural_key)


def test_control_characters_are_printed_as_escapes_and_letters_as_they_are():
    assert printable("a\nb\x1b[31m é") == "a\\nb\\x1b[31m é"


@pytest.mark.parametrize("number, said", [(0, "0 classes"), (1, "1 class"), (2, "2 classes")])
def test_one_thing_is_said_in_the_singular(number, said):
    assert counted(number, "class", "classes") == said
