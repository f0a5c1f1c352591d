"""The part of the report page that needs no script: tiles, facts, the table with a bar per class, the J histogram."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from ..naming import counted
from .records import Report, RunRecord, ScoreRow

BINS = 20
PLOT = (30, 8, 440, 150)  # left, top, width, height of the curve in its 484 x 180 picture
RUN_LETTERS = ("A", "B")


def percent(value: float | None) -> str:
    """A share as percent with one digit, a dash where there is none."""
    return "–" if value is None else f"{100 * value:.1f}"


def difference(first: float | None, second: float | None) -> str:
    """second - first in points with its sign, a dash where one is missing."""
    return "–" if first is None or second is None else f"{100 * (second - first):+.1f}".replace("-", "−")


def tiles(report: Report) -> str:
    """The large numbers at the top: J and P of every run, number of images and classes."""
    cells = []
    for letter, run in zip(RUN_LETTERS, report.runs):
        if run.headline is None:
            continue
        mark = f'<span class="run run-{letter}">{letter}</span> ' if len(report.runs) == 2 else ""
        cells += [
            _tile(percent(run.headline.J), f"{mark}Jaccard index J"),
            _tile(percent(run.headline.P), f"{mark}precision P"),
        ]
    if report.scored and len(report.runs) == 2:
        first, second = (run.headline for run in report.runs)
        cells.append(_tile(difference(first.J, second.J), "J of B minus J of A"))
    categories = len({image.category for image in report.images})
    cells += [_tile(str(len(report.images)), "images"), _tile(str(categories), "classes")]
    if len(report.runs) == 1:
        cells.append(_tile(str(len(report.runs[0].groups)), "groups"))
    return "\n".join(cells)


def facts(report: Report) -> str:
    """What made each run, and the line that decides its numbers."""
    blocks = []
    for letter, run in zip(RUN_LETTERS, report.runs):
        heading = (
            f'<h3><span class="run run-{letter}">{letter}</span> {escape(run.title)}</h3>'
            if len(report.runs) == 2
            else ""
        )
        items = "".join(f"<div><dt>{escape(k)}</dt><dd>{escape(v)}</dd></div>" for k, v in run.facts.items())
        protocol = f'<p class="protocol">{escape(run.protocol)}</p>' if run.protocol else ""
        blocks.append(f'<div class="facts">{heading}<dl>{items}</dl>{protocol}</div>')
    notes = "".join(f'<p class="note">{escape(note)}</p>' for note in report.notes)
    return "\n".join(blocks) + notes


def table(report: Report) -> str:
    """Classes with their bars, then the averages; nothing for a report without scores."""
    if not report.scored:
        return ""
    two = len(report.runs) == 2
    header = ["class", "images"]
    for letter in RUN_LETTERS[: len(report.runs)]:
        header += [f"P {letter}", f"J {letter}"] if two else ["P", "J"]
    header += ["B − A"] if two else []
    head = "".join(f'<th scope="col">{text}</th>' for text in header)
    body = "".join(_table_row(rows, True) for rows in _aligned([run.classes for run in report.runs]))
    foot = "".join(_table_row(rows, False) for rows in _aligned([run.averages for run in report.runs]))
    return (
        '<table><caption class="hidden">Scores in percent</caption>'
        f'<thead><tr>{head}<th scope="col" class="bars">J per class</th></tr></thead>'
        f"<tbody>{body}</tbody><tfoot>{foot}</tfoot></table>"
    )


def histogram(report: Report) -> str:
    """How many images have which J: a button per bin of 5 points, which shows these images."""
    if not report.scored:
        return ""
    counts = [_bin_counts(run) for run in report.runs]
    highest = max(max(c) for c in counts) or 1
    columns = []
    for index in range(BINS):
        low, high = index * 100 // BINS, (index + 1) * 100 // BINS
        each = [c[index] for c in counts]
        label = f"J {low} to {high}: " + (
            counted(each[0], "image")
            if len(each) == 1
            else ", ".join(f"{counted(n, 'image')} in {r}" for r, n in zip(RUN_LETTERS, each))
        )
        bars = "".join(
            f'<i class="run-{letter}" style="height:{100 * n / highest:.2f}%"></i>'
            for letter, n in zip(RUN_LETTERS, each)
        )
        columns.append(
            f'<button type="button" data-bin="{index}" title="{label}" aria-label="{label}" aria-pressed="false">'
            f"<b>{' '.join(str(n) for n in each) if len(each) == 1 and each[0] else ''}</b><span>{bars}</span></button>"
        )
    axis = "".join(f"<span>{tick}</span>" for tick in range(0, 101, 20))
    return f'<div class="histogram">{"".join(columns)}</div><div class="axis" aria-hidden="true">{axis}</div>'


def curve(report: Report) -> str:
    """Mean J against a fixed threshold, one line per run; nothing where there is no curve."""
    lines = [[j for j in run.curve if j is not None] for run in report.runs]
    if not report.scored or any(len(line) < 2 or len(line) < len(run.curve) for line, run in zip(lines, report.runs)):
        return ""
    drawn = "".join(
        f'<polyline class="line-{letter}" points="{_points(line)}"/>' for letter, line in zip(RUN_LETTERS, lines)
    )
    tops = [f"highest {percent(max(line))} at {line.index(max(line)) / (len(line) - 1):.2f}" for line in lines]
    best = "; ".join(tops if len(tops) == 1 else (f"{letter} {top}" for letter, top in zip(RUN_LETTERS, tops)))
    return (
        '<div class="card"><h2>Mean J against a fixed threshold</h2>'
        f'<svg class="curve" viewBox="0 0 484 180" role="img" aria-label="{best}">{_grid()}{drawn}</svg>'
        f'<p class="hint">{best}: found with the ground truth, an upper bound.</p></div>'
    )


def _points(line: Sequence[float]) -> str:
    last = len(line) - 1
    left, top, width, height = PLOT
    return " ".join(f"{left + width * i / last:.1f},{top + height * (1 - j):.1f}" for i, j in enumerate(line))


def _grid() -> str:
    """Lines and numbers of the plot: J in percent upwards, the threshold to the right."""
    left, top, width, height = PLOT
    parts = []
    for j in range(0, 101, 25):
        y = top + height * (1 - j / 100)
        parts.append(f'<line class="grid" x1="{left}" x2="{left + width}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text x="{left - 6}" y="{y + 4:.1f}" text-anchor="end">{j}</text>')
    for tick in range(6):
        x = left + width * tick / 5
        parts.append(f'<text x="{x:.1f}" y="{top + height + 16}" text-anchor="middle">{tick / 5:.1f}</text>')
    return "".join(parts)


def _tile(value: str, label: str) -> str:
    return f'<div class="tile"><strong>{value}</strong><span>{label}</span></div>'


def _aligned(tables: Sequence[Sequence[ScoreRow]]) -> list[list[ScoreRow | None]]:
    """Rows of one name side by side, in the order of the first table; None where a run has no such row."""
    names = list(dict.fromkeys(row.name for rows in tables for row in rows))
    by_name = [{row.name: row for row in rows} for rows in tables]
    return [[rows.get(name) for rows in by_name] for name in names]


def _table_row(rows: Sequence[ScoreRow | None], is_class: bool) -> str:
    """One class, whose name is a button that shows its images, or one average."""
    first = next(row for row in rows if row is not None)
    name = escape(first.name, quote=True)
    label = f'<button type="button" class="link" data-class="{name}">{name}</button>' if is_class else name
    cells = [f'<th scope="row">{label}</th><td>{first.count}</td>']
    scores = [row.J if row is not None else None for row in rows]
    for row in rows:
        cells.append(f"<td>{percent(row and row.P)}</td><td><b>{percent(row and row.J)}</b></td>")
    if len(rows) == 2:
        cells.append(f'<td class="delta">{difference(*scores)}</td>')
    bars = "".join(
        f'<i class="run-{letter}" style="width:{100 * (j or 0):.2f}%"></i>' for letter, j in zip(RUN_LETTERS, scores)
    )
    cells.append(f'<td class="bars" aria-hidden="true">{bars}</td>')
    return f"<tr>{''.join(cells)}</tr>"


def _bin_counts(run: RunRecord) -> list[int]:
    counts = [0] * BINS
    for record in run.maps.values():
        if record.J is not None:
            counts[min(int(record.J * BINS), BINS - 1)] += 1
    return counts
