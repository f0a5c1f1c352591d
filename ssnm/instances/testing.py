"""Testing on groups with known objects: find, write, score, beside the baseline and the ceiling."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..data.coco_results import CocoEvaluation, decode_mask, read_results
from ..data.instance_sets import InstanceGroup, require_truths
from ..errors import DataError, MissingFileError
from ..files.atomic import write_atomically
from ..files.components import component_masks
from ..files.ids import ids_png
from ..files.images import RGBImage, as_annotated
from ..metrics.instances import GroupScores, InstanceScores, score_group
from ..metrics.mask_ap import overlap_matrix
from .config import Config
from .discovery import BORDER, Finding, Group, Progress, find, seeded_network
from .photos import Photo, enlarged, read_photos
from .prior import resized
from .result import image_ids, index_image

# The level at which a prior's map becomes the baseline's mask, and the least share of the image that a component
# covers; both chosen for the baseline on the odd groups of docs/deepco3.md.
COMPONENT_LEVEL, BORDER_LEVEL = 0.5, 0.7
COMPONENT_SHARE = 0.005
RUN_RECORD = "run.json"


@dataclass(frozen=True)
class Inputs:
    """prior, proposals: of a group, as `discover` takes them; prior_trained: as there."""

    prior: Callable[[InstanceGroup], Any] = lambda group: BORDER
    proposals: Callable[[InstanceGroup], Any] = lambda group: "builtin"
    prior_trained: bool | None = None


def run_test(
    groups: Sequence[InstanceGroup],
    config: Config,
    inputs: Inputs,
    out: str | Path,
    *,
    seed: int = 0,
    device: str = "cpu",
    record: dict[str, Any] | None = None,
    on_group: Callable[[str], None] = lambda name: None,
) -> InstanceScores | None:
    """Find the instances of every group, write them to OUT/<group>/, score those with truth.

    Returns:
        The scores, or None if no group has truth.
    """
    require_truths(groups)
    out, network = Path(out), seeded_network(config, seed)
    scored: list[GroupScores] = []
    said: dict[str, None] = {}
    coco = CocoEvaluation()
    for group in groups:
        on_group(group.name)
        photos = read_photos([_picture(group, i) for i in range(len(group))], config.side)
        truths = None if group.truth is None else [_truth(group, i, photo) for i, photo in enumerate(photos)]
        own = Group(photos, inputs.prior(group), inputs.proposals(group), inputs.prior_trained)
        finding = find(own, network, config, seed=seed, device=device, keep_proposals=truths is not None,
                       progress=Progress())  # fmt: skip
        finding.result.save(out / group.name)
        said[str(finding.result.prior)] = None
        if truths is not None:
            scored.append(_scored(group.name, photos, truths, finding, coco, out / group.name))
    listed = [{"group": g.name, "images": [str(p.absolute()) for p in g.paths]} for g in groups]
    document = {"task": "instances", "seed": seed, **(record or {}), "prior": list(said), "groups": listed}
    write_atomically(out / RUN_RECORD, json.dumps(document, indent=1) + "\n")
    if not scored:
        return None
    scores = InstanceScores(tuple(scored), (*said, *coco.notes()), coco.result())
    scores.write(out)
    return scores


def score_folder(
    folder: str | Path, groups: Sequence[InstanceGroup], file_name: str = "instances.json"
) -> InstanceScores:
    """Score anyone's results, FOLDER/<group>/instances.json, against the truth of a test set.

    Images are found by `file_name` of an entry, or by its `image_id` as `result.json` or COCO numbers it.

    Raises:
        MissingFileError, DataError: no results of a group, entries of unknown images, masks of another size.
    """
    folder = Path(folder)
    require_truths(groups)
    scored, coco = [], CocoEvaluation()
    for group in groups:
        if group.truth is None:
            raise MissingFileError(f"group {group.name} has no true masks: there is nothing to score against")
        place = folder / group.name / file_name
        entries = _entries_by_image(place, [path.name for path in group.paths])
        truths = [group.truth(i) for i in range(len(group))]
        predictions, scores = [], []
        for truth, own, path in zip(truths, entries, group.paths):
            masks = [decode_mask(e["segmentation"], f"{place}, image {path.name}") for e in own]
            order = np.argsort([-float(e.get("score", 1.0)) for e in own], kind="stable")
            predictions.append(np.array([masks[i] for i in order], dtype=bool).reshape(-1, *_size(masks, truth, path)))
            scores.append(np.array([float(own[i].get("score", 1.0)) for i in order]))
            coco.add(predictions[-1], scores[-1], truth)
        scored.append(score_group(group.name, predictions, scores, truths))
    return InstanceScores(tuple(scored), coco.notes(), coco.result())


def _picture(group: InstanceGroup, index: int) -> Path | RGBImage:
    """An image of a group, the way round in which its true masks are."""
    truth, path = group.truth, group.paths[index]
    return path if truth is None else as_annotated(path, lambda: truth(index).shape[1:])


def prior_components(values: np.ndarray, level: float = COMPONENT_LEVEL) -> tuple[np.ndarray, np.ndarray]:
    """The baseline of one image: the pieces of the prior's mask (n, H, W) bool, scored by the prior's mean inside."""
    masks = component_masks(values >= level, max(1, int(COMPONENT_SHARE * values.size)))
    return masks, np.array([float(values[mask].mean()) for mask in masks])


def _truth(group: InstanceGroup, index: int, photo: Photo) -> np.ndarray:
    """The true masks (g, H, W) of an image, which have its size."""
    truth = group.truth(index)
    if truth.shape[1:] != photo.size:
        raise DataError(f"{photo.name} has {photo.size} pixels, its true masks {truth.shape[1:]}; they must agree")
    return truth


def _scored(
    name: str, photos: Sequence[Photo], truths: Sequence[np.ndarray], finding: Finding, coco: CocoEvaluation, out: Path
) -> GroupScores:
    """Score a group, and write its true masks beside what was found."""
    for photo, truth in zip(photos, truths):
        write_atomically(out / "truth" / f"{photo.stem}.png", ids_png(index_image(truth)))
    predictions = list(finding.result.masks)
    for masks, scores, truth in zip(predictions, finding.result.scores, truths):
        coco.add(masks, scores, truth)
    level = BORDER_LEVEL if finding.result.prior.name == BORDER else COMPONENT_LEVEL
    components = [prior_components(resized(m, photo.size), level) for m, photo in zip(finding.maps, photos)]
    ceiling = [_proposal_overlaps(finding, i, photo, truths[i]) for i, photo in enumerate(photos)]
    return score_group(name, predictions, finding.result.scores, truths, components, ceiling)


def _proposal_overlaps(finding: Finding, index: int, photo: Photo, truth: np.ndarray) -> np.ndarray:
    """IoU (g, M) of objects with proposals, at the working size."""
    small = np.array([enlarged(mask, photo.working_size) for mask in truth], dtype=bool)
    return overlap_matrix(small.reshape(-1, *photo.working_size), finding.outcome.unpacked(index))


def _entries_by_image(place: Path, names: Sequence[str]) -> list[list[dict[str, Any]]]:
    """The entries of a results file for each image of a group."""
    stems = [Path(name).stem for name in names]
    numbers = image_ids(stems)
    own: list[list[dict[str, Any]]] = [[] for _ in names]
    for number, entry in enumerate(read_results(place)):
        key = Path(str(entry["file_name"])).stem if "file_name" in entry else entry["image_id"]
        known = stems if "file_name" in entry else numbers
        if key not in known:
            raise DataError(f"{place}: entry {number} is of image {key}, which the group does not have")
        own[known.index(key)].append(entry)
    return own


def _size(masks: Sequence[np.ndarray], truth: np.ndarray, path: Path) -> tuple[int, int]:
    if any(mask.shape != truth.shape[1:] for mask in masks):
        raise DataError(f"{path.name}: masks of another size than the true ones, {truth.shape[1:]}; they must agree")
    return truth.shape[1:]
