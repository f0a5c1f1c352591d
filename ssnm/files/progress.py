"""Progress on standard error: a bar on a terminal. The one place that counts anything for a user. No torch."""

from __future__ import annotations

import sys
from collections.abc import Callable

from tqdm import tqdm

Progress = Callable[[int, int], None]  # (done, total)


def count_progress(total: int | None, unit: str, name: str, hidden: bool = False) -> tqdm:
    """What counts up to `total` on standard error: a bar on a terminal, else a plain line every 20 seconds or more."""
    if hidden or sys.stderr.isatty():
        return tqdm(total=total, unit=unit, desc=name, disable=hidden, dynamic_ncols=True)
    return tqdm(total=total, unit=unit, desc=name, file=_PlainLines(), mininterval=20, maxinterval=60,
                bar_format="{desc}: {n_fmt}/{total_fmt}  {rate_fmt}  ETA {remaining}")


def terminal_bar(total: int | None, unit: str, name: str = "") -> tqdm:
    """A bar on a terminal, which closes with its `with` block; nothing elsewhere."""
    return count_progress(total, unit, name, hidden=not sys.stderr.isatty())


def progress_bar(name: str, unit: str = "image") -> Progress:
    """A callback that draws a bar called `name` on a terminal, and nothing elsewhere."""
    bars: list[tqdm] = []

    def show(done: int, total: int) -> None:
        if not bars:
            bars.append(terminal_bar(total, unit, name))
        bars[0].update(done - bars[0].n)
        if done == total:
            bars.pop().close()

    return show


class _PlainLines:
    """Standard error for tqdm: what would overwrite the line before becomes a line of its own."""

    def write(self, text: str) -> None:
        if text.strip():
            print(text.strip(), file=sys.stderr, flush=True)

    def flush(self) -> None:
        pass
