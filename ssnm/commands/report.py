"""Write one HTML page to look at every result of a test.

RUN is a folder that `ssnm test ... --out RUN` wrote. The page needs no server and no other file: scores, and every
image with prediction, ground truth, spatial mask and score. With --against two runs are laid side by side.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import DataError, MissingFileError
from ..files.places import find
from ..files.progress import progress_bar
from ..metrics import FolderScores, ImageScore, binarize
from ..metrics.maps import read_map
from ..metrics.protocol import AVERAGE_NAMES
from ..naming import counted
from ..visualize.records import GroupRecord, ImageFiles, MapRecord, Report, RunRecord, ScoreRow
from ..visualize.report import write_page
from . import report_instances, report_video

RUN_RECORD, SCORES, SPATIAL_MASKS = "run.json", "scores.json", "spatial_masks.npz"
UNSCORED_RULE = "mean+std:0.8"
_FACTS = ("dataset", "checkpoint", "grouping", "group_size", "seed", "commit", "created")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of ``ssnm report``."""
    parser.add_argument("folder", type=find, metavar="RUN", help="results folder of the test command")
    parser.add_argument("--against", type=find, metavar="RUN2", help="a second run on the same images, side by side")
    parser.add_argument("--out", type=Path, metavar="FILE", help="the page (default: RUN/report.html)")
    parser.add_argument("--data", type=find, metavar="ROOT", help="where the test set is now, if it has moved")


def run(args: argparse.Namespace) -> int:
    """Write the page and say where it is; returns the exit status.

    Raises:
        UserError: a folder or file is missing or is not what it should be.
    """
    path = write_report(args.folder, args.against, args.out, args.data, progress_bar("page"))
    print(f"report: {path} ({path.stat().st_size / 1e6:.1f} MB)")
    return 0


def write_report(
    folder: str | Path,
    against: str | Path | None = None,
    out: str | Path | None = None,
    data: str | Path | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Path:
    """Write the report page of the results in `folder`; returns its path.

    Args:
        folder: what the test command wrote: maps, run.json, and where there are, scores.json and spatial_masks.npz.
        against: a second such folder over the same images.
        out: the page; None: report.html in `folder`, or report_against_NAME.html with `against`.
        data: root of the test set, None: the one that run.json names.
        progress: called with (images done, images in all).

    Raises:
        MissingFileError: a folder, record, map or image is missing.
        DataError: a damaged record, scores of other images, two runs that cannot be compared.
    """
    if report_video.is_video_run(folder):
        if against is not None:
            raise DataError(f"{folder}: a run on videos; two of them cannot be laid side by side, leave out --against")
        return report_video.write_report(folder, out, data)
    if report_instances.is_instance_run(folder):
        if against is not None:
            raise DataError(f"{folder}: a run on instances; two cannot be laid side by side, leave out --against")
        return report_instances.write_report(folder, out)
    results = [read_results(Path(f)) for f in (folder, against) if f is not None]
    default = "report.html" if against is None else f"report_against_{Path(against).resolve().name}.html"
    return write_page(make_report(results, data), out or Path(folder) / default, progress=progress)


@dataclass(frozen=True)
class Results:
    """A results folder as read: run.json, its images by "class/name", scores and spatial masks or None."""

    folder: Path
    record: dict[str, Any]
    images: dict[str, dict[str, Any]]
    scores: FolderScores | None
    spatial_masks: dict[str, np.ndarray]

    @property
    def name(self) -> str:
        return self.folder.resolve().name


def read_results(folder: Path) -> Results:
    """Read a results folder, without its maps and images.

    Raises:
        MissingFileError: no run.json. DataError: it or the scores beside it are damaged or do not fit each other.
    """
    try:
        record = json.loads((folder / RUN_RECORD).read_text(encoding="utf-8"))
        if record.get("task", "coseg") != "coseg":
            task = record["task"]
            raise DataError(f"{folder}: a run of task {task}; score it with ssnm score --task {task} --pred {folder} "
                            "--gt TRUTH")  # fmt: skip
        images = {
            f"{group['category']}/{image['name']}": {"category": group["category"], **image}
            for group in record["groups"]
            for image in group["images"]
        }
        numbers = [group["new"] for group in record["groups"]]
        if not isinstance(record.get("data_root", ""), str) or not all(isinstance(n, int) for n in numbers):
            raise TypeError("data_root or new")
    except (FileNotFoundError, NotADirectoryError):
        raise MissingFileError(f"{folder}: no {RUN_RECORD} in it; give the folder that ssnm test --out wrote") from None
    except DataError:
        raise
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{folder / RUN_RECORD}: damaged ({type(error).__name__}: {error}); test again") from None
    scores = FolderScores.from_json(folder / SCORES) if (folder / SCORES).is_file() else None
    for score in scores.images if scores is not None else ():
        if f"{score.category}/{score.name}" not in images:
            raise DataError(
                f"{folder / SCORES}: scores {score.category}/{score.name}, which {RUN_RECORD} beside it does not name; "
                "score again"
            )
    return Results(folder, record, images, scores, _read_spatial_masks(folder / SPATIAL_MASKS))


def make_report(results: list[Results], data: str | Path | None = None) -> Report:
    """The records of the page from one or two results folders; see :func:`write_report`."""
    keys = [key for key in results[0].images if all(key in r.images for r in results)]
    if not keys:
        raise DataError(f"{results[0].folder} and {results[-1].folder} share no image; compare runs on one test set")
    if len(results) == 2:
        _check_protocols(*results)
    root = _data_root(results[0], data)
    images = tuple(_image_files(results[0].images[key], root) for key in keys)
    names = [r.name for r in results]
    titles = names if len(set(names)) == len(names) else [str(r.folder) for r in results]
    runs = tuple(_run_record(r, title, keys) for r, title in zip(results, titles, strict=True))
    dataset = results[0].record.get("dataset", "")
    return Report(" · ".join(filter(None, [" against ".join(titles), dataset])), images, runs, _notes(results, keys))


def _run_record(results: Results, title: str, keys: list[str]) -> RunRecord:
    scores = results.scores
    by_key = {} if scores is None else {f"{i.category}/{i.name}": i for i in scores.images}
    known = {name: results.record.get(name) for name in _FACTS}
    if known["checkpoint"] is not None:
        known["checkpoint"] = Path(known["checkpoint"]).name
    groups = tuple(_group_record(group, set(keys)) for group in results.record["groups"])
    return RunRecord(
        title=title,
        maps={key: _map_record(results, key, by_key.get(key)) for key in keys},
        groups=tuple(group for group in groups if group.new),
        facts={name.replace("_", " "): str(value) for name, value in known.items() if value is not None},
        protocol=f"masks cut at {UNSCORED_RULE}; no scores" if scores is None else scores.protocol.describe(),
        headline=None if scores is None else ScoreRow("", scores.headline.count, scores.headline.P, scores.headline.J),
        averages=()
        if scores is None
        else tuple(ScoreRow(AVERAGE_NAMES[name], a.count, a.P, a.J) for name, a in scores.averages.items()),
        classes=() if scores is None else tuple(ScoreRow(*row) for row in scores.per_class()),
        curve=() if scores is None else scores.curve,
    )


def _map_record(results: Results, key: str, score: ImageScore | None) -> MapRecord:
    """The map of one image, with the threshold that scored it, or the release's where it was not scored."""
    path = results.folder / f"{key}.png"
    spatial_mask, quality = results.spatial_masks.get(key), results.images[key].get("quality")
    if score is None:
        threshold = binarize(read_map(path), UNSCORED_RULE)[1]
        return MapRecord(path, threshold, spatial_mask=spatial_mask, quality=quality)
    full_scale = 1 if results.scores is not None and results.scores.binary_maps else 255
    return MapRecord(path, score.threshold, score.P, score.J, spatial_mask, full_scale, quality)


def _group_record(group: dict[str, Any], keys: set[str]) -> GroupRecord:
    """A group, without the images that the page does not show."""
    members = [f"{group['category']}/{image['name']}" for image in group["images"]]
    fresh = [m for m in members[: group["new"]] if m in keys]
    again = [m for m in members[group["new"] :] if m in keys]
    return GroupRecord(group["category"], (*fresh, *again), len(fresh))


def _image_files(image: dict[str, Any], root: Path) -> ImageFiles:
    truth = image.get("truth")
    return ImageFiles(image["category"], image["name"], root / image["image"], None if truth is None else root / truth)


def _data_root(results: Results, data: str | Path | None) -> Path:
    root = find(results.record.get("data_root", "") if data is None else data)
    if not root.is_dir():
        raise MissingFileError(
            f"{root}: the test set of {results.folder} is not there; give its folder with --data ROOT"
        )
    return root


def _check_protocols(first: Results, second: Results) -> None:
    if (first.scores is None) != (second.scores is None):
        without = first if first.scores is None else second
        raise DataError(f"{without.folder}: has no {SCORES}, the other run has; score both to compare them")
    if first.scores is not None and second.scores is not None and first.scores.protocol != second.scores.protocol:
        raise DataError(
            f"{first.folder} and {second.folder} are scored by different protocols ({first.scores.protocol.name}, "
            f"{second.scores.protocol.name}); score both by the same"
        )


def _read_spatial_masks(path: Path) -> dict[str, np.ndarray]:
    if not path.is_file():
        return {}
    try:
        with np.load(path, allow_pickle=False) as archive:
            return {key: archive[key] for key in archive.files}
    except (OSError, ValueError, EOFError, KeyError) as error:
        raise DataError(f"{path}: cannot be read ({type(error).__name__}); remove it or test again") from None


def _notes(results: list[Results], keys: list[str]) -> tuple[str, ...]:
    notes = []
    for r in results:
        notes += [] if r.scores is None else [f"{r.name}: {note}" for note in r.scores.notes()]
        if left := len(r.images) - len(keys):
            notes.append(f"left out, since not in the other run: {counted(left, 'image')} of {r.name}; the scores "
                         "hold them")
    return tuple(notes)
