"""The report page of a test on instances: its records from a results folder. For `ssnm report` and `ssnm test`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ..errors import DataError, MissingFileError
from ..visualize.instance_page import GroupPage, InstanceReport, InstanceShot, write_instances_page

RUN_RECORD, SCORES = "run.json", "scores.json"
_FACTS = ("dataset", "config", "seed", "prior")
_MEASURES = {"AP 0.25": ("ap", 0), "AP 0.5": ("ap", 1), "components 0.5": ("baseline", 1), "chance 0.5": ("random", 1),
             "CorLoc": ("corloc", None), "ceiling": ("ceiling", 0)}  # fmt: skip


def is_instance_run(folder: str | Path) -> bool:
    """Whether a results folder was written by a test on instances."""
    try:
        return json.loads((Path(folder) / RUN_RECORD).read_text(encoding="utf-8")).get("task") == "instances"
    except (OSError, ValueError, AttributeError):
        return False


def write_report(folder: str | Path, out: str | Path | None = None) -> Path:
    """Write the report page of the results in `folder`; returns its path.

    Args:
        out: the page; None: report.html in `folder`.

    Raises:
        MissingFileError, DataError: a record, mask or image is missing or damaged.
    """
    folder = Path(folder)
    record = _read(folder / RUN_RECORD)
    scores = _read(folder / SCORES) if (folder / SCORES).is_file() else {"groups": [], "mean": {}, "notes": []}
    by_name = {group["name"]: group for group in scores["groups"]}
    try:
        groups = tuple(_group(folder, entry, by_name.get(entry["group"], {})) for entry in record["groups"])
        facts = {key: _text(record[key]) for key in _FACTS if key in record}
    except (KeyError, TypeError) as error:
        raise DataError(f"{folder / RUN_RECORD}: damaged ({type(error).__name__}: {error}); test again") from None
    title = f"{folder.resolve().name} · {record.get('dataset', 'instances')}"
    report = InstanceReport(title, groups, facts, _measures(scores["mean"]), tuple(scores["notes"]))
    return write_instances_page(report, out or folder / "report.html")


def _group(folder: Path, entry: dict[str, Any], scored: dict[str, Any]) -> GroupPage:
    place = folder / entry["group"]
    shots = []
    for path in map(Path, entry["images"]):
        truth = place / "truth" / f"{path.stem}.png"
        found = place / "masks" / f"{path.stem}.png"
        shots.append(InstanceShot(path.name, path, found, truth if truth.is_file() else None))
    return GroupPage(entry["group"], tuple(shots), _measures(scored))


def _measures(scored: dict[str, Any]) -> dict[str, float | None]:
    found = {}
    for name, (key, index) in _MEASURES.items():
        value = scored.get(key)
        if value is not None:
            found[name] = value if index is None else value[index]
    return found


def _text(value: Any) -> str:
    return "; ".join(map(str, value)) if isinstance(value, list) else str(value)


def _read(path: Path) -> dict[str, Any]:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise MissingFileError(f"{path}: no such file; give the folder that ssnm test --out wrote") from None
    except ValueError as error:
        raise DataError(f"{path}: damaged ({error}); test again") from None
