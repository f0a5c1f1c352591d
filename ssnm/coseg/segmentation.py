"""What `segment` gives back: masks, probabilities, spatial masks, categories; saving and overlays."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Callable, Sequence

import numpy as np
from PIL import Image

from ..errors import ConfigError, DataError, UserError
from ..files.atomic import image_bytes, mask_png, write_atomically
from ..files.given import name_of, read_given
from ..files.lazy import LazyList
from ..files.listing import list_images, same_name
from ..files.parallel import in_threads
from ..metrics import binarize, jaccard
from ..naming import counted, natural_key
from ..visualize.overlays import overlay_picture, probability_image
from ..visualize.panels import GroupPictures, group_panel
from .photos import decoded, shown_picture
from .predict import GroupPrediction, ImageLike

KINDS = ("masks", "overlays", "probabilities")  # the folders of a saved result
SAVED = KINDS[:2]  # those written unless others are asked for


class Segmentation:
    """The co-segmentation of N images. Maps are made on access, at the image's original size.

    Attributes:
        masks: N arrays (H, W) bool.
        probabilities: N arrays (H, W) float32 in [0, 1].
        spatial_masks: N arrays (h, w) float32, positive on the object's side, or None without spatial modulator.
        categories: what the group shares, [(name, probability)] best first; empty without semantic modulator. Only
            categories of the training set can be named; masks do not depend on the name being right.
        images: as they were given, without those that were left out.
        names: file names, or image_0001, ... for images that came without one.
        present: (N,) float in [0, 1], the probability that the shared object is in each image, in the order of `names`;
            1 for a group of one; None for a model file without a calibration.
        quality: (N,) float in [0, 1], the J (overlap with the truth) to be expected of each mask: check the lowest
            first. None for a model file without a calibration.

    absent: "empty" clears the masks of images whose `present` lies below the model file's cut (`probabilities` stay as
    they are); "keep" clears none. shown: JPEG pictures of the images for overlays, None where there is none.
    """

    def __init__(
        self, images: Sequence[ImageLike], prediction: GroupPrediction, labels: Sequence[str], threshold: float | str,
        absent: str = "empty", shown: Sequence[bytes | None] | None = None,
        names: Sequence[str] | None = None,
    ) -> None:  # fmt: skip
        self._rule, self._threshold = rule_of(threshold, absent)
        self.images, self.prediction, self._keep = images, prediction, absent == "keep"
        self._shown = [None] * len(images) if shown is None else shown
        self.present, self.quality = prediction.present, prediction.quality
        self.names = [name_of(image, i) for i, image in enumerate(images)] if names is None else list(names)
        self.probabilities: Sequence[np.ndarray] = LazyList(prediction.probability, len(prediction))
        self.masks: Sequence[np.ndarray] = LazyList(self._mask, len(prediction))
        self.spatial_masks = prediction.spatial_masks
        shares = prediction.category_probabilities
        order = [] if shares is None else np.argsort(-shares, kind="stable")
        self.categories = [(labels[i], float(shares[i])) for i in order]

    def __len__(self) -> int:
        return len(self.prediction)

    def image(self, index: int) -> np.ndarray:
        """The input image, upright, (H, W, 3) uint8 RGB."""
        return read_given(self.images[index]).array

    def overlay(self, index: int | None = None) -> Image.Image | list[Image.Image]:
        """The image, 1600 pixels along its longer side or less, with its mask laid over it; all images as a list for
        None (they are all kept in memory)."""
        if index is None:
            return [self.overlay(i) for i in range(len(self))]
        kept = self._shown[index]
        picture = decoded(kept) if kept is not None else shown_picture(Image.fromarray(self.image(index)))
        return overlay_picture(picture.convert("RGB"), self._mask(index, picture.size[::-1]))

    def panel(
        self, count: int = 6, title: str = "", truths: Sequence[np.ndarray] | None = None, cell: int = 112
    ) -> Image.Image:
        """The first `count` images in columns: image, spatial mask (blue background side, orange object side),
        prediction tinted in proportion to its probability with the outline at 0.5, and with `truths`, (H, W) bool, the
        truth and the J of the masks."""
        few = range(min(count, len(self)))
        known = None if truths is None else [np.asarray(truths[i], dtype=bool) for i in few]
        scores = None if known is None else [jaccard(self.masks[i], truth) for i, truth in zip(few, known)]
        pictures = GroupPictures(
            images=[self.image(i) for i in few],
            spatial_masks=None if self.spatial_masks is None else [self.spatial_masks[i] for i in few],
            probabilities=[self.probabilities[i] for i in few],
            truths=known,
            title=title or f"{counted(len(self), 'image')} as one group",
            scores=scores,
        )
        return group_panel([pictures], cell)

    def save(
        self, folder: str | Path, kinds: Sequence[str] = SAVED, progress: Callable[[int, int], None] | None = None
    ) -> Path:
        """Write masks/NAME.png (0/255), overlays/NAME.jpg and, where `kinds` names them, probabilities/NAME.png (grey,
        8 bits), on every core; present.json and quality.json hold these figures by name. Returns the folder.

        Args:
            kinds: some of "masks", "overlays", "probabilities".
            progress: told (images done, images in all).

        Raises:
            ConfigError: another kind. DataError: two images of one name, whose files would overwrite each other; files
                that cannot be written, after all others are.
        """
        check_kinds(kinds)
        folder, stems, problems = Path(folder), stems_of(self.names), []
        write = lambda i: self.write_image(i, folder, stems[i], kinds)  # noqa: E731
        for done, problem in enumerate(in_threads(write, range(len(self))), start=1):
            problems += [] if problem is None else [problem]
            if progress is not None:
                progress(done, len(self))
        self.write_figures(folder, problems)
        return folder

    def write_image(self, index: int, folder: Path, stem: str, kinds: Sequence[str] = SAVED) -> str | None:
        """The files of one image, as :meth:`save` writes them; what cannot be written is told in one line."""
        make = {"masks": self._mask_file, "overlays": self._overlay_file, "probabilities": self._probability_file}
        try:
            for kind in kinds:
                suffix, content = make[kind](index)
                write_atomically(folder / kind / f"{stem}{suffix}", content)
        except UserError as error:
            return str(error)
        return None

    def write_figures(self, folder: Path, problems: Sequence[str] = ()) -> None:
        """present.json and quality.json.

        Raises:
            DataError: `problems`, what could not be written before, and these.
        """
        problems = list(problems)
        for name, figures in (("present", self.present), ("quality", self.quality)):
            if figures is not None:
                by_name = {image: round(float(f), 4) for image, f in zip(self.names, figures)}
                try:
                    write_atomically(folder / f"{name}.json", json.dumps(by_name, indent=1) + "\n")
                except DataError as error:
                    problems.append(str(error))
        if problems:
            said = "" if len(problems) == 1 else f"{len(problems)} results could not be written: "
            raise DataError(said + "; ".join(problems[:5]) + ("; ..." if len(problems) > 5 else ""))

    def others_in(self, folder: str | Path) -> list[str]:
        """What :meth:`save` would leave in `folder` beside its own: the names of other images' masks and maps."""
        kept = set(stems_of(self.names))
        places = [Path(folder) / kind for kind in KINDS if (Path(folder) / kind).is_dir()]
        return sorted({p.stem for place in places for p in list_images(place)} - kept, key=natural_key)

    def covered(self, index: int) -> float:
        """The share of the image that its mask covers, in [0, 1], judged at network size."""
        return float(self._mask(index, self.prediction.probabilities.shape[-2:]).mean())

    def _mask_file(self, index: int) -> tuple[str, bytes]:
        return ".png", mask_png(self._mask(index))

    def _overlay_file(self, index: int) -> tuple[str, bytes]:
        return ".jpg", image_bytes(self.overlay(index), "JPEG", quality=90)

    def _probability_file(self, index: int) -> tuple[str, bytes]:
        return ".png", image_bytes(probability_image(self.probabilities[index]), compress_level=1)

    def _mask(self, index: int, size: tuple[int, int] | None = None) -> np.ndarray:
        """The mask at its own size, or at another."""
        if self.prediction.absent(index) and not self._keep:
            return np.zeros(size or self.prediction.sizes[index], dtype=bool)
        threshold = self._threshold
        if threshold is None and index not in self.prediction.given:  # mean+std is that of the map at full size
            mask, threshold = binarize(self.probabilities[index], self._rule)
            if size is None:
                return mask
        return self.prediction.above(index, 0.5 if threshold is None else threshold, size)


def rule_of(threshold: float | str, absent: str = "empty") -> tuple[str, float | None]:
    """What cuts the maps, as :func:`ssnm.metrics.binarize` takes it, and the number where it is one.

    Raises:
        ConfigError: a wrong threshold or `absent`: here, not at the first mask.
    """
    if absent not in ("empty", "keep"):
        raise ConfigError(f"absent must be 'empty' or 'keep', got {absent!r}")
    rule = f"fixed:{threshold}" if isinstance(threshold, (int, float)) else threshold
    _, cut = binarize(np.zeros((1, 1)), rule)
    return rule, cut if rule.startswith("fixed:") else None


def check_kinds(kinds: Sequence[str]) -> None:
    """Raises:
        ConfigError: a kind of file that there is not, or none at all."""
    wrong = [kind for kind in kinds if kind not in KINDS]
    if wrong or not kinds:
        raise ConfigError(f"what is saved is some of {', '.join(KINDS)}; got '{wrong[0] if wrong else ''}'")


def stems_of(names: Sequence[str]) -> list[str]:
    """File names without their suffixes, by which results are saved.

    Raises:
        DataError: two are the same.
    """
    stems = [Path(name).stem for name in names]
    double = same_name(stems)
    if double is not None:
        raise DataError(f"two images are named '{double}'; rename one, their masks would overwrite each other")
    return stems
