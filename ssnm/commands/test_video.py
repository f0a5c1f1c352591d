"""Segment a test set of videos with a model, write the masks, score them (--dataset of videos).

Writes SEQ/FRAME.png under the out folder, palette PNGs with the ids of the truth, at the size of the frames; of
youtube_vos Annotations/VIDEO/FRAME.png, the frames that meta.json lists. Where every sequence has its truth, the
printed numbers are those that `ssnm score --task video` gives on the written PNGs.
"""

from __future__ import annotations

import argparse
import json
import sys
import zipfile
from pathlib import Path
from typing import Any

from ..errors import ConfigError
from ..files.atomic import replacing, write_atomically
from ..files.ids import ids_png
from ..files.places import find
from ..files.progress import terminal_bar
from ..metrics.sequences import TruthFolders
from ..metrics.video import VideoScores, score_sequences
from ..naming import counted
from ..video.testsets import SPLITS, VIDEO_SETS, TestVideo, read_video_set
from .score_video import report

ANNOTATIONS = "Annotations"  # what YouTube-VOS's server wants the folder to be called


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("checkpoint", metavar="CHECKPOINT", help="checkpoint, exported model, or the word video")
    parser.add_argument("--dataset", required=True, choices=VIDEO_SETS, help="which test set")
    parser.add_argument("--data", type=find, required=True, metavar="ROOT", help="its folder, here or in $SSNM_DATA")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="where masks and scores go")
    parser.add_argument("--split", metavar="NAME", help="of DAVIS (default val) and YouTube-VOS (default valid)")
    parser.add_argument("--sequences", metavar="A,B", help="only these videos")
    parser.add_argument("--size", type=int, nargs=2, metavar=("W", "H"), help="of the network's input")
    parser.add_argument("--finetune", type=int, default=0, metavar="K", help="K steps on the first frame, per object")
    parser.add_argument("--listed-frames-only", action="store_true", help="YouTube-VOS as the authors: no other frame")
    parser.add_argument("--zip", action="store_true", help="YouTube-VOS: also write Annotations.zip for its server")
    parser.add_argument("--report", action="store_true", help="also write report.html")
    parser.add_argument("--device", help="cpu, cuda, ... (default: an accelerator where there is one)")


def run(args: argparse.Namespace) -> int:
    """Segment, write, score; returns the exit status.

    Raises:
        UserError: wrong options, folders or files, in one line.
    """
    from .. import from_pretrained

    of_youtube_vos = args.dataset == "youtube_vos"
    for option in ("zip", "listed_frames_only"):
        if getattr(args, option) and not of_youtube_vos:
            raise ConfigError(f"--{option.replace('_', '-')} is for --dataset youtube_vos; leave it out")
    root = args.data
    videos = _selected(read_video_set(args.dataset, root, args.split, args.listed_frames_only), args.sequences)
    segmenter = from_pretrained(args.checkpoint, args.device, method="osmn")
    masks = args.out / ANNOTATIONS if of_youtube_vos else args.out
    seconds, frames = 0.0, 0
    for video in videos:
        prompts = video.prompts()
        propagation = segmenter.start(prompts, None if args.size is None else tuple(args.size), args.finetune)
        seconds += _segment(video, propagation, prompts.palette, masks / video.name)
        frames += len(video.frames)
    speed = frames / seconds if seconds > 0 else None
    _write_record(args, root, videos, masks, segmenter.path, speed)
    print(f"{counted(len(videos), 'video')}, {counted(frames, 'frame')}"
          + (f"; {speed:.1f} frames/s of the network alone" if speed else ""))
    if args.zip:
        print(f"for the server: {_zip(videos, masks, args.out / f'{ANNOTATIONS}.zip')}")
    _score(args, videos, masks)
    return 0


def _segment(video: TestVideo, propagation, palette: bytes | None, folder: Path) -> float:
    """Write the masks of one video; returns the seconds of the network."""
    from ..video.frames import read_frames

    seconds = 0.0
    with terminal_bar(len(video.frames), "frame", video.name) as bar:
        for frame in read_frames(video.frames):
            result = propagation.step(frame)
            seconds += result.seconds
            for note in result.notes:
                bar.write(f"note: {video.name}: {note}", file=sys.stderr)
            if video.saved is None:
                write_atomically(folder / f"{frame.name}.png", ids_png(result.ids, palette))
            elif frame.name in video.saved:
                listed = [i for i in result.object_ids if i in video.saved[frame.name]]
                write_atomically(folder / f"{frame.name}.png", ids_png(result.merged(listed), palette))
            bar.update()
    return seconds


def _score(args: argparse.Namespace, videos: list[TestVideo], masks: Path) -> VideoScores | None:
    """Score what was written, where every video has its truth; print and write it."""
    protocol = "osmn:youtube" if args.dataset == "youtube_objects" else "davis"
    scores = None
    if args.dataset != "youtube_vos" and all(_has_truth(video) for video in videos):
        scores = score_sequences(masks, truth_of(args.dataset, args.split, videos), protocol)
        print("\n" + report(scores))
        scores.write_json(args.out / "scores.json")
        scores.write_csv(args.out / "frames.csv")
    else:
        print("no scores: " + ("YouTube-VOS is scored by its server" if args.dataset == "youtube_vos" else
                               "not every video has true masks beyond those that start objects"))  # fmt: skip
    if args.report:
        from .report_video import write_report

        print(f"report: {write_report(args.out)}")
    print(f"masks: {masks}")
    return scores


def truth_of(dataset: str, split: str | None, videos: list[TestVideo]) -> TruthFolders:
    """The true masks of the videos of a test set."""
    folders = {video.name: video.truth for video in videos}
    binary = any(video.binary for video in videos)
    if dataset.startswith("davis"):
        return TruthFolders(folders, "davis", f"{dataset.removeprefix('davis')}/{split or SPLITS[dataset]}", binary)
    return TruthFolders(folders, "youtube_objects" if dataset == "youtube_objects" else "folders", binary=binary)


def _has_truth(video: TestVideo) -> bool:
    return sum(1 for path in video.truth.iterdir() if not path.name.startswith(".")) >= 3


def _selected(videos: list[TestVideo], names: str | None) -> list[TestVideo]:
    if names is None:
        return videos
    wanted = [name.strip() for name in names.split(",") if name.strip()]
    known = [video.name for video in videos]
    unknown = [name for name in wanted if name not in known]
    if unknown or not wanted:
        raise ConfigError(f"--sequences {names}: no such video; there are {', '.join(known)}")
    return [video for video in videos if video.name in wanted]


def _write_record(
    args: argparse.Namespace, root: Path, videos: list[TestVideo], masks: Path, model: Path | None, speed: float | None
) -> None:
    """run.json: what made these masks, for the report page."""
    record: dict[str, Any] = {
        "task": "video", "dataset": args.dataset, "split": args.split or SPLITS.get(args.dataset),
        "data_root": str(root.resolve()), "checkpoint": str(model or args.checkpoint), "size": args.size,
        "finetune": args.finetune, "masks": masks.relative_to(args.out).as_posix(),
        "listed_frames_only": args.listed_frames_only, "frames_per_second": speed,
        "sequences": [video.name for video in videos],
    }  # fmt: skip
    write_atomically(args.out / "run.json", json.dumps(record, indent=1) + "\n")


def _zip(videos: list[TestVideo], masks: Path, path: Path) -> Path:
    """Annotations/VIDEO/FRAME.png in one file, as the server wants it."""
    with replacing(path) as partial, zipfile.ZipFile(partial, "w", zipfile.ZIP_STORED) as archive:
        for name in (f"{video.name}/{stem}.png" for video in videos for stem in video.saved or ()):
            archive.write(masks / name, f"{ANNOTATIONS}/{name}")
    return path
