"""What a run shows while it goes on: a bar on a terminal, plain lines in a file."""

import io
import sys

import pytest

from ssnm.engine.logs import RunLog, count_progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def training_row(step: int) -> dict:
    return {"step": step, "loss/total": 0.5, "loss/sem": 0.25, "lr": 1e-3, "images_per_s": 20.0, "step_s": 1.5,
            "data_wait": 0.04}


def log_two_rows(out, start: int = 0) -> None:
    log = RunLog(out, start, 200)
    log.row(training_row(start + 20))
    log.row(training_row(start + 40))
    log.close()


def test_a_file_gets_a_plain_line_per_row_and_no_bar(tmp_path, capsys):
    log_two_rows(tmp_path)
    assert capsys.readouterr().err.splitlines() == [
        "step 20/200  total 0.500  sem 0.250  img/s 20.0  wait 4%  ETA 04:30",
        "step 40/200  total 0.500  sem 0.250  img/s 20.0  wait 4%  ETA 04:00",
    ]


def test_a_resumed_run_counts_on(tmp_path, capsys):
    log_two_rows(tmp_path, start=100)
    assert capsys.readouterr().err.startswith("step 120/200 ")


def test_a_terminal_gets_a_bar(tmp_path, monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    log_two_rows(tmp_path)
    shown = terminal.getvalue()
    assert "\r" in shown and "40/200" in shown and "wait=4%" in shown and "step 40/200" not in shown


@pytest.mark.parametrize("stream", [Terminal, io.StringIO])
def test_scores_of_a_validation_have_one_decimal_and_a_line_on_standard_output(tmp_path, capsys, monkeypatch, stream):
    monkeypatch.setattr(sys, "stderr", stream())
    log = RunLog(tmp_path, 0, 200)
    log.row({"step": 20, "val/J": 56.949, "val/group_use": 100.0})
    log.close()
    assert capsys.readouterr().out == "step 20: held-out groups  J 56.9  group_use 100.0\n"


def count_to_three(hidden: bool = False) -> None:
    with count_progress(3, "image", "msrc", hidden) as bar:
        for _ in range(3):
            bar.update()


def test_a_count_is_plain_lines_in_a_file_a_bar_on_a_terminal_and_hidden_on_request(capsys, monkeypatch):
    count_to_three()
    lines = capsys.readouterr().err
    assert "\r" not in lines and lines.splitlines()[0].startswith("msrc: 0/3 ")
    assert lines.splitlines()[-1].startswith("msrc: 3/3 ") and len(lines.splitlines()) == 2
    count_to_three(hidden=True)
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(sys, "stderr", Terminal())
    count_to_three()
    assert "\r" in sys.stderr.getvalue() and "3/3" in sys.stderr.getvalue()
