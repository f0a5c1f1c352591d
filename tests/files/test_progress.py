"""Progress is a bar on a terminal, plain lines of a long count in a file, and nothing where it would be noise."""

import io
import sys

from ssnm.files.progress import count_progress, progress_bar


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


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


def test_a_callback_draws_one_bar_on_a_terminal_and_nothing_in_a_file(capsys, monkeypatch):
    for terminal in (False, True):
        if terminal:
            monkeypatch.setattr(sys, "stderr", Terminal())
        show = progress_bar("checked")
        for done in (1, 2, 3):
            show(done, 3)
        show(1, 2)  # the next count begins anew
        show(2, 2)
        assert terminal or capsys.readouterr().err == ""
    assert "checked" in sys.stderr.getvalue() and "3/3" in sys.stderr.getvalue() and "2/2" in sys.stderr.getvalue()
