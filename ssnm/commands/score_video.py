"""J and F of anyone's masks of videos, as the official DAVIS tool has them (ssnm score --task video).

Masks are index PNGs, DIR/SEQ/FRAME.png, on both sides, or a DAVIS root as --gt; two folders of frames are one
sequence. A picture with only 0 and 255 shows id 1; beside other ids 255 is void.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from ..errors import ConfigError
from ..files.places import find
from ..metrics.video import PROTOCOLS, VideoScores, published_table, score_videos

PUBLISHED = ("davis2016", "davis2017", "youtube_objects")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of ``ssnm score --task video``."""
    parser.add_argument("--task", choices=["video"], help="what is scored (ssnm score --help: co-segmentation)")
    parser.add_argument("--pred", required=True, type=find, metavar="DIR", help="masks: DIR/SEQ/FRAME.png, or frames")
    parser.add_argument("--gt", required=True, type=find, metavar="DIR", help="truth of the same layout, or a root")
    parser.add_argument("--split", metavar="NAME", help="of a DAVIS root: val (default), train, 2016/val, ...")
    parser.add_argument("--protocol", default="davis", choices=PROTOCOLS, help="official (default) or OSMN's")
    parser.add_argument("--allow-missing", action="store_true", help="score a missing sequence or frame as empty")
    parser.add_argument("--dataset", choices=PUBLISHED, help="put the result under the published rows of this set")
    parser.add_argument("--workers", type=int, metavar="K", help="threads (default: one per core and a few)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the scores, fractions in [0, 1]")


def run(args: argparse.Namespace) -> int:
    """Score, print, write; returns the exit status.

    Raises:
        UserError: wrong options, folders or files, in one line.
    """
    if args.workers is not None and args.workers < 1:
        raise ConfigError(f"--workers {args.workers}: at least 1 is needed")
    scores = score_videos(args.pred, args.gt, args.protocol, args.split, args.allow_missing, args.workers)
    print(report(scores, args.dataset))
    if args.json is not None:
        print(f"\nwritten to {scores.write_json(args.json)}")
    return 0


def report(scores: VideoScores, dataset: str | None = None) -> str:
    """The table of the scores, and the published rows where the data set is known or named."""
    dataset = dataset or scores.dataset
    parts = [scores.table()] + ([published_table(scores, dataset)] if dataset else [])
    return "\n\n".join(parts)
