"""Tables: aligned text for a terminal, Markdown, CSV. The first column is left, all others right aligned."""

from __future__ import annotations

import csv
import io
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from ..files.atomic import write_atomically

MAX_WIDTH = 110


def text_table(header: Sequence[str], rows: Sequence[Sequence[str]], rules_before: Collection[int] = ()) -> str:
    """Columns two blanks apart; a rule under the header and before the rows whose index is in ``rules_before``.

    A table wider than 110 characters goes on below itself, with its first column repeated.
    """
    widths = [max(len(row[column]) for row in [header, *rows]) for column in range(len(header))]
    blocks: list[list[int]] = [[0]]
    for column in range(1, len(widths)):
        if len(blocks[-1]) > 1 and sum(widths[c] + 2 for c in blocks[-1]) + widths[column] > MAX_WIDTH:
            blocks.append([0])
        blocks[-1].append(column)
    tables = [
        _text_block([header[c] for c in block], [[row[c] for c in block] for row in rows], rules_before)
        for block in blocks
    ]
    return "\n\n".join(tables)


def _text_block(header: Sequence[str], rows: Sequence[Sequence[str]], rules_before: Collection[int]) -> str:
    widths = [max(len(row[column]) for row in [header, *rows]) for column in range(len(header))]
    rule = "-" * (sum(widths) + 2 * (len(widths) - 1))
    lines = [_aligned(header, widths), rule]
    for index, row in enumerate(rows):
        if index in rules_before and index > 0:
            lines.append(rule)
        lines.append(_aligned(row, widths))
    return "\n".join(lines)


def _aligned(row: Sequence[str], widths: Sequence[int]) -> str:
    others = [cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)]
    return "  ".join([row[0].ljust(widths[0]), *others]).rstrip()


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]], bold_rows: Collection[int] = ()) -> str:
    """A Markdown table; the rows whose index is in ``bold_rows`` are bold."""
    lines = [_markdown_row(header), "|" + "|".join(["---", *["---:"] * (len(header) - 1)]) + "|"]
    for index, row in enumerate(rows):
        lines.append(_markdown_row([f"**{c.removesuffix(' *')}**" for c in row] if index in bold_rows else row))
    return "\n".join(lines)


def _markdown_row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def percent(value: float | None, digits: int = 1) -> str:
    """A share as percent, ``-`` where there is none."""
    return "-" if value is None else f"{100 * value:.{digits}f}"


def write_rows(path: str | Path, header: Sequence[str], rows: Sequence[Sequence[Any]]) -> Path:
    """Write a CSV file with one header line."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    return write_text(path, text.getvalue())


def write_text(path: str | Path, text: str) -> Path:
    """Write a text file as UTF-8, whole or not at all, making its folder; returns its path."""
    write_atomically(path, text)
    return Path(path)
