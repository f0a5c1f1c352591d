"""Folders of masks of videos: which predicted frame belongs to which true one. Files only; no picture is opened here.

Truth: DIR/SEQ/FRAME.png, a data set root (DAVIS: Annotations/480p/SEQ and ImageSets; YouTube-Objects: Labels/SEQ;
YouTube-VOS: Annotations/SEQ), or one folder of frames, which is one sequence. Predictions: DIR/SEQ/FRAME.png, or one
folder of frames.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ..errors import ConfigError, DataError, MissingFileError
from ..files.listing import images_by_stem, list_folders, shorten
from ..naming import natural_key

MASK_SUFFIXES = (".png", ".bmp", ".gif", ".tif", ".tiff", ".jpg", ".jpeg")
DEFAULT_SPLIT = "val"


@dataclass(frozen=True)
class TruthFolders:
    """Sequences of a truth folder: name -> folder of frames; what kind of root they came from, and the split.

    layout: "davis", "youtube_objects", "folders" or "frames" (one sequence); binary: all objects are one (DAVIS 2016).
    """

    sequences: dict[str, Path]
    layout: str
    split: str | None = None
    binary: bool = False


@dataclass(frozen=True)
class FramePair:
    """One frame of a sequence: its name, true mask, predicted mask or None where it is missing."""

    name: str
    truth: Path
    prediction: Path | None


@dataclass(frozen=True)
class SequencePair:
    """One sequence, its frames in natural order; missing: the predicted folder is not there at all."""

    name: str
    frames: tuple[FramePair, ...]
    missing: bool = False


def find_truth(root: str | Path, split: str | None = None) -> TruthFolders:
    """The sequences of a truth folder; see the top of this file for the layouts.

    split: of a DAVIS root, "val", "train" or with the year, "2016/val"; None: val.

    Raises:
        MissingFileError: no such folder, split, or sequence of the split.
        ConfigError: a split for a layout that has none, or one that both years have.
        DataError: a folder without masks.
    """
    root = Path(root)
    if not root.is_dir():
        raise MissingFileError(f"{root}: no such folder; true masks DIR/SEQ/FRAME.png or a DAVIS root were expected")
    if (root / "ImageSets").is_dir() and (root / "Annotations").is_dir():
        return _davis_split(root, _annotations(root), split or DEFAULT_SPLIT)
    if split is not None:
        raise ConfigError(f"--split {split}: {root} is no DAVIS root (ImageSets/ and Annotations/); leave it out")
    if (root / "Labels").is_dir():
        return TruthFolders(_folders(root / "Labels"), "youtube_objects")
    if (root / "Annotations").is_dir():
        return TruthFolders(_folders(_annotations(root)), "folders")
    if images_by_stem(root):
        return TruthFolders({root.resolve().name: root}, "frames")
    return TruthFolders(_folders(root), "folders")


def pair_sequences(truth: TruthFolders, pred_dir: str | Path) -> tuple[list[SequencePair], list[str]]:
    """Every true frame with its prediction by stem, and the names of predicted sequences that have no truth.

    Raises:
        MissingFileError: no such folder of predictions.
        DataError: frames of one stem, or predicted frames beside predicted folders.
    """
    pred_dir = Path(pred_dir)
    if not pred_dir.is_dir():
        raise MissingFileError(f"{pred_dir}: no such folder of predictions")
    folders = {p.name: p for p in list_folders(pred_dir) if not p.name.startswith("_")}
    if truth.layout == "frames":
        name = next(iter(truth.sequences))
        if not images_by_stem(pred_dir) and name in folders:  # one true sequence, predictions DIR/SEQ
            return [_pair(name, truth.sequences[name], folders[name])], []
        return [_pair(name, truth.sequences[name], pred_dir)], []
    if len(truth.sequences) == 1 and not folders:
        folders = {next(iter(truth.sequences)): pred_dir}
    pairs = [_pair(name, folder, folders.get(name)) for name, folder in truth.sequences.items()]
    return pairs, [name for name in folders if name not in truth.sequences]


def _pair(name: str, truth: Path, prediction: Path | None) -> SequencePair:
    true_frames = images_by_stem(truth)
    if not true_frames:
        raise DataError(f"{truth}: holds no mask; a sequence of masks FRAME.png was expected")
    predicted = {} if prediction is None else images_by_stem(prediction)
    stems = sorted(true_frames, key=natural_key)
    frames = tuple(FramePair(stem, true_frames[stem], predicted.get(stem)) for stem in stems)
    return SequencePair(name, frames, missing=prediction is None)


def _folders(root: Path) -> dict[str, Path]:
    folders = {p.name: p for p in list_folders(root)}
    if not folders:
        raise DataError(f"{root}: holds neither sequences (SEQ/FRAME.png) nor masks; give the folder of true masks")
    return folders


def _annotations(root: Path) -> Path:
    """Where the sequences of a root lie: DAVIS has a folder per resolution."""
    places = (root / "Annotations" / "480p", root / "Annotations" / "Full-Resolution")
    return next((p for p in places if p.is_dir()), root / "Annotations")


def _davis_split(root: Path, annotations: Path, split: str) -> TruthFolders:
    lists = {p.relative_to(root / "ImageSets").with_suffix("").as_posix(): p
             for p in sorted((root / "ImageSets").glob("*/*.txt"))}  # fmt: skip
    matches = [name for name in lists if split in (name, name.split("/")[-1])]
    if not matches:
        raise MissingFileError(f"{root / 'ImageSets'}: no split {split!r}; there are: {', '.join(lists) or 'none'}")
    if len(matches) > 1:
        raise ConfigError(f"--split {split}: {root} has {' and '.join(matches)}; name one: --split {matches[0]}")
    names = [line.strip() for line in lists[matches[0]].read_text(encoding="utf-8").splitlines() if line.strip()]
    absent = [name for name in names if not (annotations / name).is_dir()]
    if absent:
        raise MissingFileError(
            f"{annotations}: no folder of {shorten(absent)}, which the split {matches[0]} lists; "
            "add the masks or take the names out of the list"
        )
    folders = {name: annotations / name for name in names}
    return TruthFolders(folders, "davis", matches[0], binary=matches[0].startswith("2016/"))
