"""Every file is written whole under its name or not at all, and what goes wrong names it."""

import json

import pytest

from ssnm.errors import DataError
from ssnm.files import atomic
from ssnm.files.atomic import write_atomically, writing


def test_a_short_write_is_an_error_that_names_the_file_and_leaves_the_old_one(tmp_path, monkeypatch):
    path = tmp_path / "a.png"
    path.write_bytes(b"old")
    monkeypatch.setattr(atomic.Path, "write_bytes", lambda self, data: open(self, "wb").write(data[:2]))
    with pytest.raises(DataError, match="a.png: cannot be written .2 of 3 bytes"):
        write_atomically(path, b"new")
    assert path.read_bytes() == b"old" and [p.name for p in tmp_path.iterdir()] == ["a.png"]


def test_a_name_that_is_no_text_can_be_written_and_read_back(tmp_path):
    name = b"caf\xe9.jpg".decode("utf-8", "surrogateescape")
    write_atomically(tmp_path / "a.json", json.dumps({"name": name}, ensure_ascii=False))
    assert json.loads((tmp_path / "a.json").read_text("utf-8")) == {"name": name}


def test_a_file_that_grows_is_named_too(tmp_path):
    with pytest.raises(DataError, match="log.jsonl: cannot be written .No space"):
        with writing(tmp_path / "log.jsonl"):
            raise OSError(28, "No space left on device")
