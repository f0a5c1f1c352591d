"""The report page of a test on videos: its records from a results folder. Called by `ssnm report` and `ssnm test`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ..errors import DataError, MissingFileError
from ..files.listing import images_by_stem, plain_stem
from ..metrics.video import FrameScores, read_frame_scores
from ..video.testsets import TestVideo, read_video_set
from ..visualize.videos import ObjectCurve, SequencePage, VideoReport, write_videos_page

RUN_RECORD, FRAME_SCORES, SCORES = "run.json", "frames.csv", "scores.json"
_FACTS = ("dataset", "split", "checkpoint", "size", "finetune", "listed_frames_only", "frames_per_second")


def is_video_run(folder: str | Path) -> bool:
    """Whether a results folder was written by a test on videos."""
    try:
        return json.loads((Path(folder) / RUN_RECORD).read_text(encoding="utf-8")).get("task") == "video"
    except (OSError, ValueError, AttributeError):
        return False


def write_report(folder: str | Path, out: str | Path | None = None, data: str | Path | None = None) -> Path:
    """Write the report page of the results in `folder`; returns its path.

    Args:
        out: the page; None: report.html in `folder`.
        data: root of the test set, None: the one that run.json names.

    Raises:
        MissingFileError, DataError: a folder, record, mask or image is missing or damaged.
    """
    folder = Path(folder)
    record = _read_record(folder)
    root = Path(data if data is not None else record["data_root"])
    if not root.is_dir():
        raise MissingFileError(f"{root}: the test set of {folder} is not there; give its folder with --data ROOT")
    videos = {v.name: v for v in read_video_set(record["dataset"], root, record["split"], record["listed_frames_only"])}
    lost = next((name for name in record["sequences"] if name not in videos), None)
    if lost is not None:
        raise DataError(f"{root}: has no video {lost}, which {folder / RUN_RECORD} names; give the right --data ROOT")
    frames_csv = folder / FRAME_SCORES
    scores = read_frame_scores(frames_csv) if frames_csv.is_file() else {}
    measures = json.loads((folder / SCORES).read_text(encoding="utf-8"))["all"] if scores else {}
    sequences = [_sequence(videos[name], folder / record["masks"] / name, scores) for name in record["sequences"]]
    facts = {key.replace("_", " "): str(record[key]) for key in _FACTS if record.get(key) not in (None, False)}
    title = f"{folder.resolve().name} · {record['dataset']}"
    return write_videos_page(VideoReport(title, tuple(sequences), facts, measures), out or folder / "report.html")


def _read_record(folder: Path) -> dict[str, Any]:
    path = folder / RUN_RECORD
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        missing = {"dataset", "split", "data_root", "sequences", "masks", "listed_frames_only"} - set(record)
    except (FileNotFoundError, NotADirectoryError):
        raise MissingFileError(f"{folder}: no {RUN_RECORD} in it; give the folder that ssnm test --out wrote") from None
    except (ValueError, TypeError) as error:
        raise DataError(f"{path}: damaged ({type(error).__name__}); test again") from None
    if missing:
        raise DataError(f"{path}: damaged (no {min(missing)}); test again")
    return record


def _sequence(video: TestVideo, predictions: Path, scores: FrameScores) -> SequencePage:
    curves = tuple(ObjectCurve(i, j, f) for i, (j, f) in sorted(scores.get(video.name, {}).items()))
    frames = {plain_stem(path): path for path in video.frames}
    truth, predicted = images_by_stem(video.truth), images_by_stem(predictions)
    return SequencePage(video.name, frames, truth, predicted, curves, video.binary)
