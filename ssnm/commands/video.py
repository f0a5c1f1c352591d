"""Follow objects through a video, given their mask in the first frame.

FRAMES is a folder of images or a video file. The mask is a palette picture (one id per object) or one in black and
white (one object), or a folder of masks named as their frames, in which later masks may bring new objects. Writes
masks/FRAME.png (ids and palette of the mask, at the frame's own size), overlays/FRAME.jpg and preview.webp.
"""

from __future__ import annotations

import argparse
import sys
import zlib
from pathlib import Path
from typing import Any

from ..files.listing import plain_stem
from ..files.places import find
from ..files.progress import terminal_bar
from ..naming import counted


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("frames", type=find, metavar="FRAMES", help="a folder of images, or a video file")
    parser.add_argument("--mask", type=find, required=True, metavar="FIRST", help="mask, or a folder of them")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="where masks and overlays go")
    parser.add_argument("--checkpoint", default="video", metavar="FILE", help="a model of method osmn")
    parser.add_argument("--finetune", type=int, default=0, metavar="K", help="K steps on the first frame, per object")
    parser.add_argument("--size", type=int, nargs=2, metavar=("W", "H"), help="of the network's input")
    parser.add_argument("--save-probabilities", action="store_true", help="also write probabilities/FRAME.npz")
    parser.add_argument("--resume", action="store_true", help="go on with the run that DIR holds")
    parser.add_argument("--device", help="cpu, cuda, ... (default: an accelerator where there is one)")


def run(args: argparse.Namespace) -> int:
    """Segment, write, say how fast; returns the exit status.

    Raises:
        UserError: wrong options, folders or files, in one line.
    """
    from .. import from_pretrained
    from ..video.frames import count_frames, list_frames
    from ..video.prompts import read_prompts
    from ..video.results import ResultsFolder
    from ..video.segmenter import check_all_started

    names = [plain_stem(path) for path in list_frames(args.frames)] if args.frames.is_dir() else None
    total = len(names) if names is not None else count_frames(args.frames)
    prompts = read_prompts(args.mask, names)
    if total is not None:
        check_all_started(prompts, total)
    segmenter = from_pretrained(args.checkpoint, args.device, method="osmn")
    propagation = segmenter.start(prompts, None if args.size is None else tuple(args.size), args.finetune)
    results = ResultsFolder(args.out, _job(args, segmenter.path), prompts.palette, args.save_probabilities)
    progress = results.begin(args.resume)
    done: list[str] = []
    try:
        seconds = _frames(args.frames, total, propagation, results, progress, done)
    except KeyboardInterrupt:
        print(f"interrupted after {counted(len(done), 'frame')}; what was done is written; the same command with "
              "--resume goes on",
              file=sys.stderr)  # fmt: skip
        return 130
    check_all_started(prompts, len(done))
    results.finish(done)
    print(_summary(len(done), len(done) - progress.frame - 1, seconds))
    print(f"masks, overlays and preview: {args.out}")
    return 0


def _frames(frames: Path, total: int | None, propagation, results, progress, done: list[str]) -> float:
    """Every frame in order; the names of those done are added to `done`. Returns the seconds of the network."""
    from ..video.frames import read_frames

    seconds = 0.0
    with terminal_bar(total, "frame") as bar:
        for frame in read_frames(frames):
            if frame.index <= progress.frame:
                propagation.skip(frame)
                if frame.index == progress.frame:
                    propagation.restore(progress.masks)
            else:
                result = propagation.step(frame)
                results.write(result, propagation.masks)
                seconds += result.seconds
                for note in result.notes:
                    bar.write(f"note: {note}", file=sys.stderr)
            done.append(frame.name)
            bar.update()
    return seconds


def _job(args: argparse.Namespace, model: Path | None) -> dict[str, Any]:
    """What decides the masks: a run that goes on must have been given the same."""
    masks = [args.mask] if args.mask.is_file() else sorted(args.mask.iterdir())
    return {
        "video": str(args.frames.resolve()),
        "mask": {path.name: _crc(path) for path in masks if path.is_file()},
        "checkpoint": None if model is None else [str(Path(model).resolve()), Path(model).stat().st_size],
        "size": args.size,
        "finetune": args.finetune,
        "save_probabilities": args.save_probabilities,
    }


def _crc(path: Path) -> int:
    return zlib.crc32(path.read_bytes())


def _summary(frames: int, new: int, seconds: float) -> str:
    if new == 0:
        return f"{counted(frames, 'frame')}, done before"
    before = f" ({frames - new} done before)" if new < frames else ""
    speed = f"; {new / seconds:.1f} frames/s of the network alone" if seconds > 0 else ""
    return f"{counted(frames, 'frame')}{before}{speed}"
