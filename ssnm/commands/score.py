"""``ssnm score``: P and J of anyone's folder of maps, without a network."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from ..errors import ConfigError, DataError
from ..files.places import find
from ..metrics import (
    PROTOCOLS,
    FolderScores,
    Protocol,
    ThresholdRule,
    compare_with_published,
    cosal_folder,
    score_folder,
)
from ..metrics.protocol import AVERAGES, EMPTY_POLICIES
from ..metrics.published import TABLES
from ..metrics.tables import percent, text_table, write_text
from .report import read_results


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of ``ssnm score``."""
    parser.add_argument("--task", choices=["coseg", "video"], default="coseg",
                        help="--task video --help has the options for videos, --task instances --help those for "
                             "instances")  # fmt: skip
    parser.add_argument("run", nargs="?", type=find, metavar="RUN",
                        help="a folder that ssnm test wrote: its maps, against its own truth")  # fmt: skip
    parser.add_argument("--pred", type=find, metavar="DIR", help="maps: DIR/<class>/<name>.png, grey, 0..255")
    parser.add_argument("--gt", type=find, metavar="DIR", help="ground truth: DIR/<class>/<name>.*, or its root")
    add_protocol_arguments(parser)
    parser.add_argument("--classes", metavar="A,B", help="score only these class folders")
    parser.add_argument("--allow-extra", action="store_true", help="ignore maps that have no ground truth")
    parser.add_argument("--against", choices=["published"], help="put the result under the paper's table")
    parser.add_argument("--dataset", choices=list(TABLES), help="which table (default: the one with these classes)")
    parser.add_argument("--name", default="this folder", help="name of the row in the comparison")
    parser.add_argument("--curve", action="store_true", help="print mean J at the thresholds 0, 0.1, ... 0.9")
    parser.add_argument("--cosal", action="store_true", help="also S, E, F and MAE (needs the extra cosal)")
    parser.add_argument("--workers", type=int, metavar="K", help="threads (default: one per core)")
    parser.add_argument("--out", type=Path, metavar="DIR", help="write scores.json, .csv, .md, images.csv, curve.csv")


def add_protocol_arguments(parser: argparse.ArgumentParser) -> None:
    """The options that decide a number, the same for ``ssnm score`` and ``ssnm test``; see :func:`protocol_from`."""
    parser.add_argument("--protocol", default="release", choices=list(PROTOCOLS), help="preset (default: release)")
    parser.add_argument("--threshold", metavar="RULE", help="mean+std[:CAP|:none], fixed:T or best")
    parser.add_argument("--resolution", metavar="N", help="side of the square to score at, or original")
    parser.add_argument("--empty", choices=EMPTY_POLICIES, help="what an image with an empty ground truth scores")
    parser.add_argument("--average", choices=AVERAGES, help="which of the three averages is the headline")


def run(args: argparse.Namespace) -> int:
    """Score, print, write; returns the exit status.

    Raises:
        UserError: wrong options, folders or files, in one line.
    """
    protocol = protocol_from(args)
    classes = [c.strip() for c in args.classes.split(",") if c.strip()] if args.classes is not None else None
    if args.workers is not None and args.workers < 1:
        raise ConfigError(f"--workers {args.workers}: at least 1 is needed")
    if args.dataset and not args.against:
        raise ConfigError("--dataset chooses a published table; add --against published")
    maps, truth, tested = _sides(args)
    classes = tested if classes is None else classes
    scores = score_folder(maps, truth, protocol, args.workers, classes, args.allow_extra)
    cosal = cosal_folder(maps, truth, classes, args.allow_extra) if args.cosal else None
    comparison = compare_with_published({args.name: scores}, args.dataset) if args.against else None
    parts = [scores.table()]
    parts += [curve_table(scores)] if args.curve else []
    parts += [part.table() for part in (comparison, cosal) if part is not None]
    print("\n\n".join(parts))
    if args.out:
        write_results(scores, args.out)
        if comparison is not None:
            comparison.write(args.out)
        if cosal is not None:
            write_text(args.out / "cosal.json", json.dumps(cosal.to_dict(), indent=1) + "\n")
        print(f"\nwritten to {args.out}")
    return 0


def _sides(args: argparse.Namespace) -> tuple[Path, Path, list[str] | None]:
    """The folder of maps, that of the truth, and the classes that a run tested (None: all)."""
    if args.run is None:
        if args.pred is None or args.gt is None:
            raise ConfigError("give RUN, a folder that ssnm test wrote, or both --pred and --gt")
        return args.pred, args.gt, None
    if args.pred is not None:
        raise ConfigError(f"RUN ({args.run}) holds the maps; leave out --pred")
    results = read_results(args.run)
    root = args.gt or results.record.get("data_root")
    if not root:
        raise DataError(f"{args.run}/run.json: names no data_root; give the truth with --gt")
    return args.run, find(root), list(dict.fromkeys(image["category"] for image in results.images.values()))


def protocol_from(args: argparse.Namespace) -> Protocol:
    """The preset with the options that were given on the command line."""
    changes = {}
    if args.threshold is not None:
        changes["rule"] = ThresholdRule.parse(args.threshold)
    if args.resolution is not None:
        changes["resolution"] = _resolution(args.resolution)
    if args.empty is not None:
        changes["empty"] = args.empty
    if args.average is not None:
        changes["headline"] = args.average
    return Protocol.get(args.protocol).changed(**changes)


def _resolution(text: str) -> int | None:
    if text == "original":
        return None
    if not text.isdecimal():
        raise ConfigError(f"--resolution {text!r}: a number of pixels or the word original is needed")
    return int(text)


def curve_table(scores: FolderScores) -> str:
    """Mean J at the thresholds 0, 0.1, ... 0.9 (nearest k/255 below)."""
    levels = [int(tenth * 25.5) for tenth in range(10)]
    rows = [[f"{level / 255:.3f}", percent(scores.curve[level])] for level in levels]
    return "mean J at a fixed threshold\n" + text_table(["threshold", "J"], rows)


def write_results(scores: FolderScores, folder: str | Path) -> None:
    """Write scores.json, scores.csv, images.csv, curve.csv and scores.md into ``folder``."""
    folder = Path(folder)
    scores.write_json(folder / "scores.json")
    scores.write_csv(folder / "scores.csv")
    scores.write_images_csv(folder / "images.csv")
    scores.write_curve_csv(folder / "curve.csv")
    write_text(folder / "scores.md", scores.to_markdown())
