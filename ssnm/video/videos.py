"""Videos as training data of stage 2: DAVIS 2016 and 2017, YouTube-VOS, and videos drawn on the fly.

A track is one object through its sequence. Folders and ids are read in natural order.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from ..errors import DataError, MissingFileError
from ..files.ids import ids_in
from ..files.listing import images_by_stem, shorten
from ..files.masks import read_ids
from ..files.parallel import in_threads
from ..naming import natural_key
from .tracks import FileTrack, require_tracks


def davis_tracks(root: Path, version: str, split: str, resolution: str = "480p") -> list[FileTrack]:
    """The objects of a split of DAVIS: of 2016 one per sequence, whatever its ids; of 2017 one per id of frame 0.

    Raises:
        MissingFileError: the list, a folder or a mask is missing.
        DataError: a sequence without an object; no sequence is listed.
    """
    path = root / "ImageSets" / version / f"{split}.txt"
    if not path.is_file():
        raise MissingFileError(f"{path}: no such list of sequences; wanted a folder in DAVIS's layout with "
                               f"ImageSets/{version}/{split}.txt")  # fmt: skip
    names = [line.split()[0] for line in path.read_text().splitlines() if line.strip()]
    tracks = []
    for name in names:
        frames = images_by_stem(root / "JPEGImages" / resolution / name)
        masks = images_by_stem(root / "Annotations" / resolution / name)
        missing = [stem for stem in frames if stem not in masks]
        if missing or not frames:
            raise MissingFileError(f"{root / 'Annotations' / resolution / name}: masks of {len(missing)} of "
                                   f"{len(frames)} frames are missing: {shorten(missing)}")  # fmt: skip
        files, truths = tuple(frames.values()), tuple(masks[stem] for stem in frames)
        ids = (None,) if version == "2016" else ids_in(read_ids(truths[0]))
        if not ids:
            raise DataError(f"{truths[0]}: the first mask of sequence {name} shows no object")
        tracks += [FileTrack(name if i is None else f"{name}/{i}", name, files, truths, i) for i in ids]
    require_tracks(tracks, str(path), "one sequence name per line")
    return tracks


def youtube_vos_tracks(root: Path, split: str) -> list[FileTrack]:
    """The objects of a split of YouTube-VOS, each over the frames that ``meta.json`` lists for it, if two or more.

    Raises:
        MissingFileError: meta.json or a folder is missing.
        DataError: meta.json says something else than videos -> objects -> frames.
    """
    meta = root / split / "meta.json"
    if not meta.is_file():
        raise MissingFileError(f"{meta}: no such file; wanted YouTube-VOS's layout: SPLIT/meta.json, JPEGImages, "
                               "Annotations")  # fmt: skip
    try:
        listed = {video: {int(i): list(o["frames"]) for i, o in content["objects"].items()}
                  for video, content in json.loads(meta.read_bytes())["videos"].items()}  # fmt: skip
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{meta}: wanted videos -> name -> objects -> id -> frames ({error!r})") from None
    tracks = []
    for video in sorted(listed, key=natural_key):
        images, masks = (root / split / folder / video for folder in ("JPEGImages", "Annotations"))
        for i, frames in sorted(listed[video].items()):
            if len(frames) > 1:
                files, truths = (tuple(f / f"{frame}.{suffix}" for frame in frames)
                                 for f, suffix in ((images, "jpg"), (masks, "png")))  # fmt: skip
                tracks.append(FileTrack(f"{video}/{i}", video, files, truths, i))
    require_tracks(tracks, str(meta), "objects with two or more frames")
    return tracks


def only_where_seen(tracks: Sequence[FileTrack]) -> list[FileTrack]:
    """Each track over the frames in which its object is to be seen, neighbours in that list being the consecutive
    frames; what `randomize_guide` trains on. Objects seen in fewer than two frames are left out.

    All masks are read once, in threads, each file for all of its objects.
    """
    files = list(dict.fromkeys(mask for track in tracks for mask in track.masks))
    seen = dict(zip(files, in_threads(lambda file: frozenset(ids_in(read_ids(file))), files)))
    kept = []
    for track in tracks:
        frames = [k for k, mask in enumerate(track.masks)
                  if (track.object_id in seen[mask] if track.object_id is not None else seen[mask])]  # fmt: skip
        if len(frames) > 1:
            kept.append(replace(track, files=tuple(track.files[k] for k in frames),
                                masks=tuple(track.masks[k] for k in frames)))  # fmt: skip
    require_tracks(kept, "data.randomize_guide", "objects that are to be seen in two or more frames")
    return kept


def is_good_guide(mask: np.ndarray, min_area: float, min_box_share: float) -> bool:
    """Whether an object can be recognised from this frame: it covers more than `min_area` of the image and more than
    `min_box_share` of its own box (whose sides are counted as in the original: last minus first pixel)."""
    ys, xs = np.nonzero(mask)
    if xs.size == 0:
        return False
    box = int(xs.max() - xs.min()) * int(ys.max() - ys.min())
    return xs.size > min_area * mask.size and xs.size > min_box_share * box
