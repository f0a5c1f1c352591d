"""Report pages of strips: per section (a sequence, a group) rows of small pictures under each other.

One HTML file that carries everything and needs no script, written section by section. No torch.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterable, Mapping, Sequence
from html import escape
from importlib import resources
from pathlib import Path
from string import Template

import numpy as np
from PIL import Image

from ..errors import DataError
from ..files.atomic import image_bytes, replacing
from ..files.given import read_given
from ..files.masks import fitting, read_ids

SHOT_WIDTH = 240  # pixels
QUALITY = 78


def write_film(
    path: str | Path,
    title: str,
    tiles: Iterable[tuple[str, str]],
    facts: Mapping[str, str],
    notes: Iterable[str],
    table: str,
    columns: int,
    sections: Sequence[Callable[[], str]],
) -> Path:
    """Write a page; nothing half-written is left under `path`.

    Args:
        tiles: the large numbers at the top with what they are; facts: label -> text; notes: one line each.
        table: HTML of the scores; columns: pictures in a row; sections: each makes the HTML of one when its turn comes.

    Raises:
        DataError, MissingFileError: no section; an image or mask that cannot be read.
    """
    if not sections:
        raise DataError("a report needs at least one group or sequence, got none; test some first")
    items = "".join(f"<div><dt>{escape(k)}</dt><dd>{escape(v)}</dd></div>" for k, v in facts.items())
    head = fill(
        "film.html", title,
        columns=columns,
        tiles="\n".join(f'<div class="tile"><strong>{v}</strong><span>{escape(k)}</span></div>' for v, k in tiles),
        facts=f'<div class="facts"><dl>{items}</dl></div>'
        + "".join(f'<p class="note">{escape(note)}</p>' for note in notes),
        table=table,
    )  # fmt: skip
    with replacing(path) as partial, open(partial, "w", encoding="utf-8") as file:
        file.write(head)
        for section in sections:
            file.write(section())
        file.write("</main>\n</body>\n</html>\n")
    return Path(path)


def asset(name: str) -> str:
    return (resources.files(__package__) / "page" / name).read_text(encoding="utf-8")


def fill(name: str, title: str, **parts: object) -> str:
    """A page of the package with its parts, HTML, and the head that all pages share; title: text."""
    head = Template(asset("head.html")).substitute(title=escape(title), style=asset("report.css"))
    return Template(asset(name)).substitute(parts, head=head, title=escape(title))


def film(name: str, said: str, columns: int, strips: Iterable[Mapping[str, Sequence[str]]], above: str = "") -> str:
    """A section: its heading with `said` beside it, what stands `above`, and strips of rows (label -> cells, up to
    `columns` of them; label "" for a row of captions)."""
    cells = []
    for label, row in (item for strip in strips for item in strip.items()):
        shown = row if label else [f"<span>{cell}</span>" for cell in row]
        cells += [f"<b>{label}</b>", *shown, *["<span></span>"] * (columns - len(row))]
    heading = f'<h2 id="{escape(name, quote=True)}">{escape(name)}<small>{said}</small></h2>'
    return f'<section class="card sequence">{heading}{above}<div class="film">{"".join(cells)}</div></section>\n'


def link(name: str) -> str:
    """A link to the section of that name."""
    return f'<a href="#{escape(name, quote=True)}">{escape(name)}</a>'


def table(head: Iterable[str], rows: Iterable[Sequence[str]], empty: str) -> str:
    """A table of scores; a row is its heading and cells, HTML; `empty` where there are none."""
    body = ["".join([f'<tr><th scope="row">{first}</th>', *(f"<td>{cell}</td>" for cell in rest), "</tr>"])
            for first, *rest in rows]  # fmt: skip
    if not body:
        return f"<p>{escape(empty)}</p>"
    top = "".join(f'<th scope="col">{escape(text)}</th>' for text in head)
    return f"<table><thead><tr>{top}</tr></thead><tbody>{''.join(body)}</tbody></table>"


def shot(image: Path, mask: Path | None, text: str, overlay: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> str:
    """A small picture of `image` with the ids of `mask` laid over it, or plain where there is none; text: what a screen
    reader says. overlay: ((h, w, 3) uint8, ids (h, w)) -> (h, w, 3) uint8."""
    whole = Image.fromarray(read_given(fitting(image, mask)).array)
    size = (min(SHOT_WIDTH, whole.width), max(1, round(whole.height * min(SHOT_WIDTH, whole.width) / whole.width)))
    pixels = np.asarray(whole.resize(size, Image.Resampling.LANCZOS))
    if mask is not None:
        pixels = overlay(pixels, np.asarray(Image.fromarray(read_ids(mask)).resize(size, Image.Resampling.NEAREST)))
    data = base64.b64encode(image_bytes(pixels, "JPEG", quality=QUALITY)).decode("ascii")
    return (f'<img loading="lazy" alt="{escape(text, quote=True)}" width="{size[0]}" height="{size[1]}" '
            f'src="data:image/jpeg;base64,{data}">')  # fmt: skip

