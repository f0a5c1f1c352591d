"""The test sets of OSMN as folders on the disk. No torch.

| name | layout below ROOT |
|---|---|
| davis2016, davis2017 | JPEGImages/480p/SEQ, Annotations/480p/SEQ, ImageSets/{2016,2017}/SPLIT.txt |
| youtube_objects | Images/CLASS_NR, Labels/CLASS_NR; or as published: CLASS/data/NR/shots/001/{images,labels} |
| youtube_vos | SPLIT/meta.json, SPLIT/JPEGImages/VIDEO, SPLIT/Annotations/VIDEO |
| video_folder | {JPEGImages,images,frames}/SEQ and {Annotations,masks}/SEQ, or one video without SEQ |

Files are listed, not opened, but for the masks that start objects when a video is run.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..errors import DataError, MissingFileError
from ..files.ids import read_palette
from ..files.listing import images_by_stem, list_folders, plain_stem, shorten
from ..files.masks import read_binary, read_ids
from .frames import list_frames
from .prompts import Prompts, starts_only

VIDEO_SETS = ("davis2016", "davis2017", "youtube_objects", "youtube_vos", "video_folder")
SPLITS = {"davis2016": "val", "davis2017": "val", "youtube_vos": "valid"}
FRAME_FOLDERS, MASK_FOLDERS = ("JPEGImages", "images", "frames"), ("Annotations", "masks")
RESOLUTIONS = ("480p", "Full-Resolution")


@dataclass(frozen=True)
class TestVideo:
    """One video to run.

    name; frames: image files in order; masks: stem -> mask file that may start objects; truth: the folder of true
    masks; binary: all ids are one object; starts: id -> stem of the frame where it starts, None: where it is seen
    first; saved: stem -> ids to write there, None: every frame, every object.
    """

    __test__ = False  # not a pytest class

    name: str
    frames: tuple[Path, ...]
    masks: Mapping[str, Path]
    truth: Path
    binary: bool = False
    starts: Mapping[int, str] | None = None
    saved: Mapping[str, tuple[int, ...]] | None = None

    def prompts(self) -> Prompts:
        """Read the masks that start objects.

        Raises:
            DataError: a mask that cannot be used, or an object that is not in the mask where it should start.
        """
        number = {plain_stem(path): n for n, path in enumerate(self.frames)}
        stems = sorted(self.masks, key=number.__getitem__)
        palette = None if self.binary else read_palette(self.masks[stems[0]])
        return starts_only(((number[stem], self._starting(stem)) for stem in stems), palette, self.name)

    def _starting(self, stem: str) -> np.ndarray:
        """Ids (H, W) uint8 of the mask of one frame that may start there."""
        path = self.masks[stem]
        if self.binary:
            return read_binary(path).object.astype(np.uint8)
        shown = read_ids(path)
        if self.starts is None:
            return shown
        wanted = [i for i, start in self.starts.items() if start == stem]
        absent = [i for i in wanted if not (shown == i).any()]
        if absent:
            raise DataError(f"{path}: does not show object {absent[0]}, which should start there; mend the mask or the "
                            "list of objects")  # fmt: skip
        return np.where(np.isin(shown, wanted), shown, 0).astype(np.uint8)


def read_video_set(name: str, root: str | Path, split: str | None = None, listed_only: bool = False) -> list[TestVideo]:
    """The videos of a test set, in order.

    Args:
        name: one of ``VIDEO_SETS``.
        split: of davis2016, davis2017 and youtube_vos; None: val, val, valid.
        listed_only: of youtube_vos: run over the frames of meta.json alone, as the authors do, not over all.

    Raises:
        MissingFileError, DataError: what is missing or does not fit; the message names it.
    """
    root = Path(root)
    if not root.is_dir():
        raise MissingFileError(f"{root}: no such folder; the root of {name} was expected")
    if split is not None and name not in SPLITS:
        raise DataError(f"{name} has no splits; leave out {split!r}")
    split = split or SPLITS.get(name, "")
    if name in ("davis2016", "davis2017"):
        videos = _davis(root, name.removeprefix("davis"), split)
    elif name == "youtube_objects":
        videos = _youtube_objects(root)
    elif name == "youtube_vos":
        videos = _youtube_vos(root, split, listed_only)
    else:
        videos = _video_folder(root)
    if not videos:
        raise DataError(f"{root}: holds no video of {name}")
    return videos


def _davis(root: Path, year: str, split: str) -> list[TestVideo]:
    """The first mask of every sequence of a split; of 2016 all ids are one object."""
    listing = root / "ImageSets" / year / f"{split}.txt"
    if not listing.is_file():
        known = sorted(p.stem for p in listing.parent.glob("*.txt")) if listing.parent.is_dir() else []
        raise MissingFileError(f"{listing}: no such list of sequences; splits there: {', '.join(known) or 'none'}")
    names = [line.strip() for line in listing.read_text(encoding="utf-8").splitlines() if line.strip()]
    images, annotations = (_resolution(root / kind) for kind in ("JPEGImages", "Annotations"))
    return [_first_mask(name, images / name, annotations / name, binary=year == "2016") for name in names]


def _resolution(folder: Path) -> Path:
    return next((folder / name for name in RESOLUTIONS if (folder / name).is_dir()), folder)


def _first_mask(name: str, frames_folder: Path, masks_folder: Path, binary: bool) -> TestVideo:
    """A video whose objects all start in its first frame."""
    frames = list_frames(frames_folder)
    first = plain_stem(frames[0])
    masks = images_by_stem(masks_folder)
    if first not in masks:
        raise MissingFileError(f"{masks_folder}: no mask of the first frame {frames[0].name} of {name}")
    return TestVideo(name, tuple(frames), {first: masks[first]}, masks_folder, binary)


def _youtube_objects(root: Path) -> list[TestVideo]:
    """One object each, from the first frame that has a label; videos of one frame are passed over."""
    if (root / "Images").is_dir():
        pairs = [(p.name, p, root / "Labels" / p.name) for p in list_folders(root / "Images")]
    else:
        shots = [(kind, number, number / "shots" / "001") for kind in list_folders(root)
                 if (kind / "data").is_dir() for number in list_folders(kind / "data")]  # fmt: skip
        pairs = [(f"{kind.name}_{number.name}", shot / "images", shot / "labels") for kind, number, shot in shots
                 if (shot / "labels").is_dir()]  # fmt: skip
    videos = []
    for name, images, labels in pairs:
        frames, masks = list_frames(images), images_by_stem(labels)
        first = next((plain_stem(path) for path in frames if plain_stem(path) in masks), None)
        if first is None:
            raise MissingFileError(f"{labels}: no label of any frame of {name}")
        if len(frames) > 1:
            videos.append(TestVideo(name, tuple(frames), {first: masks[first]}, labels, binary=True))
    return videos


def _youtube_vos(root: Path, split: str, listed_only: bool) -> list[TestVideo]:
    """Objects start where meta.json lists them first, and are written in the frames that it lists."""
    folder = root / split if (root / split).is_dir() else root
    meta = folder / "meta.json"
    try:
        videos = json.loads(meta.read_text(encoding="utf-8"))["videos"]
        objects = {name: {int(i): tuple(o["frames"]) for i, o in video["objects"].items()}
                   for name, video in videos.items()}  # fmt: skip
    except FileNotFoundError:
        raise MissingFileError(f"{meta}: no such file; the root of YouTube-VOS, or a split, was expected") from None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{meta}: not in the form of YouTube-VOS ({type(error).__name__}: {error})") from None
    return [_youtube_vos_video(folder, name, of_video, listed_only) for name, of_video in objects.items()
            if any(of_video.values())]  # fmt: skip


def _youtube_vos_video(folder: Path, name: str, objects: dict[int, tuple[str, ...]], listed_only: bool) -> TestVideo:
    objects = {i: frames for i, frames in objects.items() if frames}
    saved = {stem: tuple(i for i in objects if stem in objects[i]) for stem in sorted(set().union(*objects.values()))}
    images = folder / "JPEGImages" / name
    frames = list_frames(images)
    stems = {plain_stem(path) for path in frames}
    lost = [stem for stem in saved if stem not in stems]
    if lost:
        raise MissingFileError(f"{images}: no image of frame {shorten(lost)}, which meta.json lists")
    if listed_only:
        frames = [path for path in frames if plain_stem(path) in saved]
    annotations = folder / "Annotations" / name
    masks = images_by_stem(annotations)
    starts = {i: frames_of[0] for i, frames_of in objects.items()}
    unmasked = [stem for stem in starts.values() if stem not in masks]
    if unmasked:
        raise MissingFileError(f"{annotations}: no mask of frame {unmasked[0]}, where an object starts")
    starting = {stem: masks[stem] for stem in starts.values()}
    return TestVideo(name, tuple(frames), starting, annotations, starts=starts, saved=saved)


def _video_folder(root: Path) -> list[TestVideo]:
    """The first mask is the prompt; later masks bring objects that are new in them."""
    images = next((root / name for name in FRAME_FOLDERS if (root / name).is_dir()), None)
    masks = next((root / name for name in MASK_FOLDERS if (root / name).is_dir()), None)
    if images is None or masks is None:
        raise MissingFileError(f"{root}: frames in images/ (or {', '.join(FRAME_FOLDERS)}) and masks in masks/ (or "
                               "Annotations/) were expected")  # fmt: skip
    images, masks = _resolution(images), _resolution(masks)
    folders = list_folders(images)
    pairs = [(p.name, p, masks / p.name) for p in folders] or [(root.resolve().name, images, masks)]
    videos = []
    for name, frames_folder, masks_folder in pairs:
        frames, found = list_frames(frames_folder), images_by_stem(masks_folder)
        strange = [stem for stem in found if stem not in {plain_stem(path) for path in frames}]
        if strange or not found:
            what = f"{shorten(strange)}: no name of a frame" if strange else "no mask in it"
            raise DataError(f"{masks_folder}: {what}; masks are named as the frames in {frames_folder} are")
        videos.append(TestVideo(name, tuple(frames), found, masks_folder))
    return videos
