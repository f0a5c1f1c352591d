"""`ssnm.instances.discover`: photographs of one kind of thing in, a mask per object out. No labels are needed."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..config.loading import config_to_dict
from ..engine.runtime import pick_device
from ..errors import ConfigError, DataError
from .build import build_network, build_settings
from .config import Config, preset
from .fit import FitSettings, trunk_features
from .model import CoSaliencyNetwork
from .photos import Photo, read_photos
from .pipeline import Outcome, Proposer, run_group
from .pixels import group_images
from .prior import PriorRecord, given_prior, group_border_priors
from .proposal_files import StoredProposals
from .proposals import import_skimage
from .result import Discovery

BORDER = "border"
BUILTIN = "builtin"


@dataclass(frozen=True)
class Progress:
    """What a caller may follow. on_log: a row of mean losses after each epoch; on_image: images done so far."""

    on_log: Callable[[dict[str, float]], None] = lambda row: None
    on_image: Callable[[int], None] = lambda done: None


def discover(
    images: Sequence[Any],
    prior: str | Callable[[list[np.ndarray]], Sequence[np.ndarray]] | Sequence[np.ndarray] = BORDER,
    proposals: str | Callable[[np.ndarray], Any] | Sequence[Any] = BUILTIN,
    mode: str = "fast",
    seed: int = 0,
    device: str | None = None,
    *,
    config: Config | None = None,
    prior_trained: bool | None = None,
    checkpoint: str | Path | None = None,
    progress: Progress = Progress(),
) -> Discovery:
    """Find the instances of what a group of images has in common.

    Args:
        images: 1 or more file paths, Pillow images or arrays; sizes may differ. One image alone is fitted without
            the co-peak loss, and the result says so.
        prior: where the objects may lie: "border" (label-free: unlike the image's border, and recurring in the group),
            a function of a list of RGB uint8 images (H, W, 3) to maps (H, W) in [0, 1], or such maps, one per image.
        proposals: masks to choose from: "builtin" (needs the extra `instances`), a function of an RGB uint8 image
            (h, w, 3), or one entry per image; an entry is (M, H, W) bool or a list of COCO run lengths or SAM's dicts.
        mode: "fast" (small frozen network, seconds per image on a CPU) or "paper" (VGG16, every layer fitted).
        seed: of the order of the images in fitting.
        device: "cpu", "cuda", ...; None takes an accelerator where there is one.
        config: in place of the mode's own settings.
        prior_trained: whether the prior has learned from masks, where it is not "border"; stands in the result.
        checkpoint: a file from which the fitting goes on, if it is there, and to which it is written.

    Raises:
        DataError, MissingFileError: images, maps or proposals that cannot be used.
        ConfigError, CheckpointError, MissingPackageError: see `config`, the network's weights, "builtin".
    """
    config = config or preset(mode)
    photos = read_photos(images, config.side)
    network = seeded_network(config, seed)
    device = str(pick_device(device))
    group = Group(photos, prior, proposals, prior_trained)
    return find(group, network, config, seed=seed, device=device, checkpoint=checkpoint, progress=progress).result


@dataclass(frozen=True)
class Group:
    """What is looked at: photos, and prior and proposals as :func:`discover` takes them."""

    photos: list[Photo]
    prior: Any = BORDER
    proposals: Any = BUILTIN
    prior_trained: bool | None = None


@dataclass(frozen=True)
class Finding:
    """The result, and what it was made of: the prior's maps (h, w) and, if they were kept, the proposals."""

    result: Discovery
    maps: list[np.ndarray]
    outcome: Outcome


def find(
    group: Group,
    network: CoSaliencyNetwork,
    config: Config,
    *,
    seed: int,
    device: str,
    checkpoint: str | Path | None = None,
    keep_proposals: bool = False,
    progress: Progress = Progress(),
) -> Finding:
    """As :func:`discover`, with a network that is built already; it is left as it is."""
    started = time.perf_counter()
    settings, photos = build_settings(config), group.photos
    proposer = _proposer(group.proposals, len(photos))
    maps, record = prior_maps(group.prior, photos, network, settings.fit, device, group.prior_trained)
    outcome = run_group(network, photos, maps, settings, proposer, seed=seed, device=device, checkpoint=checkpoint,
                        keep_proposals=keep_proposals, on_log=progress.on_log, on_image=progress.on_image)  # fmt: skip
    card = {
        "method": config.method,
        "mode": settings.fit.mode,
        "seed": seed,
        "proposals": group.proposals if isinstance(group.proposals, str) else "given",
        "seconds": round(time.perf_counter() - started, 1),
        "notes": notes(photos, maps, outcome),
        "config": config_to_dict(config),
    }
    return Finding(Discovery(photos, outcome.found, record, card), maps, outcome)


def seeded_network(config: Config, seed: int) -> CoSaliencyNetwork:
    """The network that groups start from; the same for the same seed even where its weights are random."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return build_network(config.model)


def prior_maps(
    prior: Any,
    photos: Sequence[Photo],
    network: CoSaliencyNetwork,
    fit: FitSettings,
    device: str,
    trained: bool | None = None,
) -> tuple[list[np.ndarray], PriorRecord]:
    """The maps (h, w) in [0, 1] of a group, and what they are; see :func:`discover`."""
    views = [photo.view for photo in photos]
    if isinstance(prior, str):
        if prior != BORDER:
            raise ConfigError(f"prior {prior!r} is not known; '{BORDER}', a function of the images, or maps are. "
                              "ssnm.instances.folder_prior reads a folder of maps; the command's coseg is, in Python, "
                              "lambda images: ssnm.from_pretrained().segment(images).probabilities")  # fmt: skip
        network = network.to(device)
        features = trunk_features(network, group_images(views, fit.size, fit.resize)).cpu().numpy()
        return group_border_priors(features), PriorRecord(BORDER, False)
    if callable(prior):
        name = getattr(prior, "name", None) or getattr(prior, "__name__", type(prior).__name__)
        trained = getattr(prior, "trained", None) if trained is None else trained
        return given_prior(prior(views), views), PriorRecord(str(name), trained)
    return given_prior(prior, views), PriorRecord("given maps", trained)


def notes(photos: Sequence[Photo], maps: Sequence[np.ndarray], outcome: Outcome) -> list[str]:
    """What a user should know of this result, in words."""
    said = []
    if len(photos) == 1:
        said.append("one image alone: fitted without the co-peak loss, nothing is known of what it would share")
    flat = [photo.name for photo, one in zip(photos, maps) if float(one.max()) - float(one.min()) < 1e-6]
    if flat:
        said.append(f"the prior is constant on {', '.join(flat[:5])}: it says nothing of where objects lie there")
    empty = [photo.name for photo, one in zip(photos, outcome.found) if not len(one.scores)]
    if empty:
        said.append(f"no instance found in {', '.join(empty[:5])}" + (f" and {len(empty) - 5} more" * (len(empty) > 5)))
    return said


def _proposer(proposals: Any, count: int) -> Proposer | None:
    """None for the built-in generator."""
    if isinstance(proposals, str):
        if proposals != BUILTIN:
            raise ConfigError(f"proposals {proposals!r} are not known; '{BUILTIN}', a function, or one entry per image "
                              "are. Files are read by ssnm.instances.StoredProposals")  # fmt: skip
        import_skimage()  # said now, not after the fitting
        return None
    if callable(proposals):
        return lambda index, image: proposals(image)
    if not isinstance(proposals, (Sequence, StoredProposals)) and not isinstance(proposals, np.ndarray):
        raise DataError(f"proposals: '{BUILTIN}', a function or a list was expected, got {type(proposals).__name__}")
    if len(proposals) != count:
        raise DataError(f"proposals: {count} entries are needed, one per image, got {len(proposals)}")
    return lambda index, image: proposals[index]
