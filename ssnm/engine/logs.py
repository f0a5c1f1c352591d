"""The log of a run: JSON lines always, a progress bar on a terminal or plain lines in a file, TensorBoard events where
it is installed."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

from tqdm import tqdm

from ..files.atomic import write_atomically, writing


class RunLog:
    """Writes rows to `out`/log.jsonl and shows them. Rows after `step` (of an interrupted run) are dropped, so that a
    resumed run's log has neither gaps nor doubles. Progress goes to standard error: a bar on a terminal, else a line
    per row."""

    def __init__(self, out: Path, step: int, steps: int) -> None:
        self.out = Path(out)
        self.out.mkdir(parents=True, exist_ok=True)
        self.path = self.out / "log.jsonl"
        self._kept: set[tuple] = set()
        self._keep_rows_until(step)
        with writing(self.path):
            self._file = open(self.path, "a", encoding="utf-8")
        self._steps = steps
        self._bar = tqdm(total=steps, initial=step, unit="step", dynamic_ncols=True, mininterval=2.0,
                         disable=not sys.stderr.isatty())
        self._board = _tensorboard(self.out, step + 1 if step else None)

    def row(self, row: dict) -> None:
        """Write one row; figures named `loss/...` go to the progress, `val/...` (percent) on a line of their own."""
        if _identity(row) not in self._kept:  # the run was killed between the row of its last step and its end
            with writing(self.path):
                self._file.write(json.dumps({**row, "time": round(time.time(), 1)}) + "\n")
                self._file.flush()
        if self._board is not None:
            for name, value in row.items():
                if name != "step" and isinstance(value, (int, float)):
                    self._board.add_scalar(name, value, row["step"])
        losses = {k[5:]: f"{v:.3f}" for k, v in row.items() if k.startswith("loss/")}
        if losses:
            self._show_progress(row, losses)
        validation = {k[4:]: v for k, v in row.items() if k.startswith("val/")}
        if validation:
            shown = "  ".join(f"{k} {v:.1f}" for k, v in validation.items())
            with tqdm.external_write_mode():
                print(f"step {row['step']}: held-out groups  {shown}", flush=True)

    def write_once(self, name: str, text: str) -> None:
        """A file of the run folder; a resumed run keeps the first one and adds its own with a number."""
        path, number = self.out / name, 1
        while path.exists() and path.read_text(encoding="utf-8") != text:
            number += 1
            path = (self.out / name).with_stem(f"{Path(name).stem}_{number}")
        write_atomically(path, text)

    def write(self, name: str, text: str) -> None:
        """A file of the run folder that a resumed run replaces."""
        write_atomically(self.out / name, text)

    def close(self) -> None:
        self._bar.close()
        self._file.close()
        if self._board is not None:
            self._board.close()

    def _show_progress(self, row: dict, losses: dict[str, str]) -> None:
        figures = {**losses, "img/s": f"{row['images_per_s']:.1f}", "wait": f"{row['data_wait']:.0%}"}
        if not self._bar.disable:
            self._bar.set_postfix(figures, refresh=False)
            self._bar.update(row["step"] - self._bar.n)
            return
        figures["ETA"] = tqdm.format_interval((self._steps - row["step"]) * row["step_s"])
        shown = "  ".join(f"{k} {v}" for k, v in figures.items())
        print(f"step {row['step']}/{self._steps}  {shown}", file=sys.stderr, flush=True)

    def _keep_rows_until(self, step: int) -> None:
        if not self.path.exists():
            return
        kept = []
        for line in self.path.read_text(encoding="utf-8").splitlines():
            try:
                row = json.loads(line)
                if row["step"] <= step:
                    kept.append(line + "\n")
                    self._kept.add(_identity(row))
            except (json.JSONDecodeError, KeyError):
                continue  # the last line of a killed run
        write_atomically(self.path, "".join(kept))


class SilentLog:
    """The log of the processes that do not write."""

    def row(self, row: dict) -> None:
        pass

    def write_once(self, name: str, text: str) -> None:
        pass

    write = write_once

    def close(self) -> None:
        pass


def _identity(row: dict) -> tuple:
    """What makes two rows the same one: the step and what they speak of."""
    return row["step"], *sorted(set(row) - {"step", "time"})


def _tensorboard(out: Path, purge_step: int | None):
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return None
    return SummaryWriter(str(out / "tensorboard"), purge_step=purge_step)
