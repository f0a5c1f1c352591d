"""What a run shows while it goes on: a bar on a terminal, plain lines in a file."""

import io
import sys

import pytest

from ssnm.engine.logs import RunLog


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
