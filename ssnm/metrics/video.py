"""J and F of folders of predicted masks of videos, by the protocol of the official DAVIS tool or of OSMN's programs.

| protocol | frames | objects | masks of two sizes |
|---|---|---|---|
| davis | all but first and last | ids 1 .. largest id of the first true frame | error |
| osmn:davis | the same (davis_eval) | the same | prediction resized, nearest |
| osmn:youtube | all but the first (youtube_eval) | one: every id | prediction resized, nearest |

`osmn` alone is osmn:youtube for a YouTube-Objects root, else osmn:davis. The result is the mean over objects. The
originals give J alone; F comes from the same frames.
"""

from __future__ import annotations

import csv
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ..errors import ConfigError, DataError, MissingFileError
from ..facts import published_video_results
from ..files.ids import ids_in
from ..files.listing import shorten
from ..files.masks import read_ids
from ..files.parallel import in_threads
from ..naming import counted
from .davis import Statistics, boundary_accuracy, region_similarity, statistics
from .sequences import FramePair, SequencePair, TruthFolders, find_truth, pair_sequences
from .tables import percent, text_table, write_rows, write_text

PROTOCOLS = ("davis", "osmn", "osmn:davis", "osmn:youtube")
FRAME_COLUMNS = ("sequence", "id", "frame", "J", "F")
MEASURES = ("J_mean", "J_recall", "J_decay", "F_mean", "F_recall", "F_decay")


@dataclass(frozen=True)
class ObjectScore:
    """One object of one sequence: J and F per scored frame, each (T,) in the order of `frames`."""

    sequence: str
    id: int
    frames: tuple[str, ...]
    J: tuple[float, ...]
    F: tuple[float, ...]

    @property
    def key(self) -> str:
        return f"{self.sequence}/{self.id}"

    def measures(self) -> dict[str, float]:
        """J_mean, J_recall, J_decay, F_mean, F_recall, F_decay, as fractions."""
        return _named(statistics(np.array(self.J)), statistics(np.array(self.F)))


@dataclass(frozen=True)
class VideoScores:
    """The objects of all sequences; `all` is the mean over objects, as both protocols have it."""

    protocol: str
    objects: tuple[ObjectScore, ...]
    notes: tuple[str, ...] = ()
    description: str = ""
    dataset: str | None = None  # whose published rows stand beside these, where the folder tells

    @property
    def all(self) -> dict[str, float]:
        each = [o.measures() for o in self.objects]
        return {name: float(np.mean([m[name] for m in each])) for name in MEASURES}

    def to_dict(self) -> dict[str, Any]:
        """{"all": measures, "objects": {"SEQ/ID": measures}}, fractions in [0, 1]."""
        return {"all": self.all, "objects": {o.key: o.measures() for o in self.objects}}

    def write_json(self, path: str | Path) -> Path:
        """Write :meth:`to_dict`."""
        return write_text(path, json.dumps(self.to_dict(), indent=1) + "\n")

    def write_csv(self, path: str | Path) -> Path:
        """One line per object and scored frame: sequence, id, frame, J, F; see :func:`read_frame_scores`."""
        rows = [[o.sequence, o.id, frame, j, f] for o in self.objects for frame, j, f in zip(o.frames, o.J, o.F)]
        return write_rows(path, FRAME_COLUMNS, rows)

    def table(self) -> str:
        """For a terminal: the objects, then the mean over them; percent."""
        header = ["object", *(name.replace("_", " ") for name in MEASURES)]
        rows = [[o.key, *_cells(o.measures())] for o in self.objects]
        rows.append([f"mean over {counted(len(self.objects), 'object')}", *_cells(self.all)])
        return "\n".join([self.description, text_table(header, rows, rules_before=(len(rows) - 1,)),
                          *(f"note: {note}" for note in self.notes)])  # fmt: skip


def score_videos(
    pred_dir: str | Path,
    truth_dir: str | Path,
    protocol: str = "davis",
    split: str | None = None,
    allow_missing: bool = False,
    workers: int | None = None,
) -> VideoScores:
    """Score predicted masks against true ones.

    Args:
        pred_dir, truth_dir: see :mod:`ssnm.metrics.sequences` for the layouts.
        protocol: one of ``PROTOCOLS``.
        split: of a DAVIS root.
        allow_missing: a missing sequence or frame scores as an empty mask, with a note, instead of an error.
        workers: threads, None: one per sequence up to the number of cores.

    Raises:
        MissingFileError: a predicted sequence or frame is missing; the message names it.
        DataError: unusable masks, masks of two sizes, an id that the truth does not have, too few frames.
        ConfigError: an unknown protocol or split.
    """
    return score_sequences(pred_dir, find_truth(truth_dir, split), protocol, allow_missing, workers)


def score_sequences(
    pred_dir: str | Path,
    truth: TruthFolders,
    protocol: str = "davis",
    allow_missing: bool = False,
    workers: int | None = None,
) -> VideoScores:
    """As :func:`score_videos`, for sequences whose folders are known."""
    if protocol not in PROTOCOLS:
        raise ConfigError(f"--protocol {protocol}: for videos one of {', '.join(PROTOCOLS)} is needed")
    if protocol == "osmn":
        protocol = "osmn:youtube" if truth.layout == "youtube_objects" else "osmn:davis"
    pairs, extra = pair_sequences(truth, pred_dir)
    notes = _check_missing(pairs, protocol, Path(pred_dir), allow_missing)
    if extra:
        notes.append(f"predicted sequences without truth are not scored: {shorten(extra)}")
    scorer = _SequenceScorer(protocol, binary=truth.binary or protocol == "osmn:youtube")
    results = list(in_threads(scorer.score, pairs, workers))
    objects = tuple(score for scores, _ in results for score in scores)
    if not objects:
        raise DataError(f"{', '.join(p.name for p in pairs)}: no first frame shows an object; nothing to score")
    notes += [note for _, own in results for note in own]
    return VideoScores(protocol, objects, tuple(notes), _describe(protocol, truth, len(pairs)), _dataset(truth))


class _SequenceScorer:
    """The rules of one protocol for one sequence."""

    def __init__(self, protocol: str, binary: bool) -> None:
        self.protocol, self.binary = protocol, binary

    def score(self, pair: SequencePair) -> tuple[list[ObjectScore], list[str]]:
        """The scores of its objects, and notes."""
        frames = scored_frames(pair.frames, self.protocol)
        if not frames:
            needed = 2 if self.protocol == "osmn:youtube" else 3
            raise DataError(f"{pair.name}: {counted(len(pair.frames), 'frame')}, none is scored by {self.protocol}; "
                            f"at least {needed} are needed")  # fmt: skip
        ids, notes = self._objects(pair)
        if not ids:
            return [], notes
        later: set[int] = set()
        values = [self._frame(frame, ids, later) for frame in frames]  # (T, objects, 2)
        if later:
            known = shorten([str(i) for i in sorted(later)])
            notes.append(f"{pair.name}: ids {known} come after the first true frame; as the official tool has it, they "
                         "are not scored")  # fmt: skip
        names = tuple(f.name for f in frames)
        scores = [
            ObjectScore(pair.name, i, names, tuple(v[n][0] for v in values), tuple(v[n][1] for v in values))
            for n, i in enumerate(ids)
        ]
        return scores, notes

    def _objects(self, pair: SequencePair) -> tuple[range, list[str]]:
        """Ids 1 .. the largest of the first true frame: the official rule."""
        first = self._read(pair.frames[0].truth)
        largest = int(first.max())
        absent = sorted(set(range(1, largest + 1)) - set(np.unique(first).tolist()))
        notes = []
        if absent:
            notes.append(f"{pair.name}: ids {shorten([str(i) for i in absent])} are not in the first true frame; as "
                         "the official tool has it, every id up to the largest counts as an object")  # fmt: skip
        if largest == 0:
            notes.append(f"{pair.name}: the first true frame shows no object, so it is not scored")
        return range(1, largest + 1), notes

    def _frame(self, frame: FramePair, ids: range, later: set[int]) -> list[tuple[float, float]]:
        """(J, F) per object; ids of the truth beyond `ids` are added to `later`."""
        truth = self._read(frame.truth)
        later.update(i for i in ids_in(truth) if i > len(ids))
        prediction = np.zeros_like(truth) if frame.prediction is None else self._read(frame.prediction)
        if prediction.shape != truth.shape:
            if self.protocol == "davis":
                raise DataError(
                    f"{frame.prediction}: {_size(prediction)}, but the truth {frame.truth} has {_size(truth)}; write "
                    "masks at the size of the truth"
                )
            size = (truth.shape[1], truth.shape[0])
            prediction = np.array(Image.fromarray(prediction).resize(size, Image.Resampling.NEAREST))
        stranger = next((i for i in ids_in(prediction) if i > len(ids) and i not in later), None)
        if stranger is not None:
            raise DataError(f"{frame.prediction}: shows id {stranger}, but the truth has ids up to {len(ids)}; give "
                            "the predictions the ids of the truth")  # fmt: skip
        pairs = [(truth == i, prediction == i) for i in ids]
        return [(region_similarity(*pair), boundary_accuracy(*pair)) for pair in pairs]

    def _read(self, path: Path) -> np.ndarray:
        ids = read_ids(path)
        return (ids > 0).astype(np.uint8) if self.binary else ids


def scored_frames(frames: tuple[FramePair, ...], protocol: str) -> tuple[FramePair, ...]:
    """All but the first and last; of osmn:youtube all but the first."""
    return frames[1:] if protocol == "osmn:youtube" else frames[1:-1]


FrameScores = dict[str, dict[int, tuple[dict[str, float], dict[str, float]]]]  # sequence -> id -> J, F by frame


def read_frame_scores(path: str | Path) -> FrameScores:
    """What :meth:`VideoScores.write_csv` wrote.

    Raises:
        DataError: the file is damaged.
    """
    scores: FrameScores = {}
    try:
        with open(path, newline="", encoding="utf-8") as file:
            for row in csv.DictReader(file):
                j, f = scores.setdefault(row["sequence"], {}).setdefault(int(row["id"]), ({}, {}))
                j[row["frame"]], f[row["frame"]] = float(row["J"]), float(row["F"])
    except (KeyError, ValueError, TypeError) as error:
        raise DataError(f"{path}: damaged ({type(error).__name__}); score again") from None
    return scores


def published_table(scores: VideoScores, dataset: str, name: str = "ours") -> str:
    """The published rows of a data set with ours below, in percent.

    Raises:
        ConfigError: no published rows of that data set with these measures.
    """
    results = published_video_results()
    known = [key for key, value in results.items() if key != "source" and "J_mean" in value["rows"][0]]
    if dataset not in known:
        raise ConfigError(f"no published J and F of {dataset!r}; there are {', '.join(known)}")
    facts = results[dataset]
    rows = [[row["method"], *(str(row.get(m, "-")) for m in MEASURES)] for row in facts["rows"]]
    rows.append([f"{name} [{scores.protocol}]", *_cells(scores.all)])
    table = text_table(["method", *(m.replace("_", " ") for m in MEASURES)], rows, rules_before=(len(rows) - 1,))
    lines = [f"{facts['title']}, percent", table]
    sequences = len({o.sequence for o in scores.objects})
    if facts["sequences"] not in (None, sequences):
        lines.append(f"note: {counted(sequences, 'sequence')}, {facts['sequences']} in the published rows: not "
                     "comparable")
    return "\n".join(lines)


def _check_missing(pairs: list[SequencePair], protocol: str, pred_dir: Path, allow: bool) -> list[str]:
    """Notes on what is missing among the scored frames.

    Raises:
        MissingFileError: something is, and that is not allowed.
    """
    sequences = [p.name for p in pairs if p.missing]
    frames = [f"{p.name}/{f.name}" for p in pairs if not p.missing
              for f in scored_frames(p.frames, protocol) if f.prediction is None]  # fmt: skip
    what = [f"{kind} {shorten(names)}" for kind, names in (("sequence", sequences), ("frame", frames)) if names]
    if not what:
        return []
    if not allow:
        raise MissingFileError(f"{pred_dir}: no prediction of {' and '.join(what)}; add it, or score it as empty with "
                               "--allow-missing")  # fmt: skip
    return [f"scored as empty, since missing: {text}" for text in what]


def _describe(protocol: str, truth: TruthFolders, sequences: int) -> str:
    frames = "all frames but the first" if protocol == "osmn:youtube" else "all frames but the first and the last"
    split = "" if truth.split is None else f", split {truth.split}"
    merged = "; all ids are one object" if truth.binary or protocol == "osmn:youtube" else ""
    return f"protocol {protocol}: {counted(sequences, 'sequence')}{split}, {frames}, mean over objects{merged}; percent"


def _dataset(truth: TruthFolders) -> str | None:
    """davis2016 or davis2017 for the val split of that year, youtube_objects for such a root."""
    if truth.layout == "youtube_objects":
        return truth.layout
    year, _, part = (truth.split or "").partition("/")
    return f"davis{year}" if part == "val" and year in ("2016", "2017") else None


def _named(j: Statistics, f: Statistics) -> dict[str, float]:
    return dict(zip(MEASURES, (j.mean, j.recall, j.decay, f.mean, f.recall, f.decay)))


def _cells(measures: dict[str, float]) -> list[str]:
    return [percent(measures[name]) for name in MEASURES]


def _size(mask: np.ndarray) -> str:
    return f"{mask.shape[1]}x{mask.shape[0]} pixels"
