"""What `segment` gives back: masks, probabilities, spatial masks, categories; saving and overlays."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Sequence

import numpy as np
from PIL import Image

from ..errors import ConfigError, DataError
from ..files.atomic import image_bytes, mask_png, write_atomically
from ..files.given import name_of, read_given
from ..files.lazy import LazyList
from ..files.listing import list_images
from ..metrics import binarize, jaccard
from ..naming import natural_key
from ..visualize.overlays import overlay, probability_image
from ..visualize.panels import GroupPictures, group_panel
from .predict import GroupPrediction, ImageLike

KINDS = ("masks", "probabilities", "overlays")  # the folders of a saved result


class Segmentation:
    """The co-segmentation of N images. Maps are made on access, at the image's original size.

    Attributes:
        masks: N arrays (H, W) bool.
        probabilities: N arrays (H, W) float32 in [0, 1].
        spatial_masks: N arrays (h, w) float32, positive on the object's side, or None without spatial modulator.
        categories: what the group shares, [(name, probability)] best first; empty without semantic modulator. Only
            categories of the training set can be named; masks do not depend on the name being right.
        names: file names, or image_0001, ... for images that came without one.
        present: (N,) float in [0, 1], the probability that the shared object is in each image, in the order of `names`;
            1 for a group of one; None for a model file without a calibration.

    absent: "empty" clears the masks of images whose `present` lies below the model file's cut (`probabilities` stay as
    they are); "keep" clears none.
    """

    def __init__(
        self, images: Sequence[ImageLike], prediction: GroupPrediction, labels: Sequence[str], threshold: float | str,
        absent: str = "empty",
    ) -> None:  # fmt: skip
        if absent not in ("empty", "keep"):
            raise ConfigError(f"absent must be 'empty' or 'keep', got {absent!r}")
        self._images, self.prediction, self._keep = images, prediction, absent == "keep"
        self.present = prediction.present
        self._rule = f"fixed:{threshold}" if isinstance(threshold, (int, float)) else threshold
        binarize(np.zeros((1, 1)), self._rule)  # a wrong threshold is an error here, not at the first mask
        self.names = [name_of(image, i) for i, image in enumerate(images)]
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
        return read_given(self._images[index]).array

    def overlay(self, index: int | None = None) -> Image.Image | list[Image.Image]:
        """The image with its mask laid over it; all images as a list for None (they are all kept in memory)."""
        if index is None:
            return [self.overlay(i) for i in range(len(self))]
        return Image.fromarray(overlay(self.image(index), self.masks[index]))

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
            title=title or f"{len(self)} images as one group",
            scores=scores,
        )
        return group_panel([pictures], cell)

    def save(self, folder: str | Path) -> Path:
        """Write masks/NAME.png (0/255), probabilities/NAME.png (grey 8-bit) and overlays/NAME.jpg, one image at a
        time; with `present`, present.json holds it by name. Returns the folder.

        Raises:
            DataError: two images of one name, whose files would overwrite each other; a file that cannot be written.
        """
        folder, stems = Path(folder), self._stems()
        for index, stem in enumerate(stems):
            probability = self.probabilities[index]
            mask = self._cut(probability, index)
            write_atomically(folder / "masks" / f"{stem}.png", mask_png(mask))
            write_atomically(folder / "probabilities" / f"{stem}.png", image_bytes(probability_image(probability)))
            picture = image_bytes(overlay(self.image(index), mask), "JPEG", quality=90)
            write_atomically(folder / "overlays" / f"{stem}.jpg", picture)
        if self.present is not None:
            figures = {name: round(float(p), 4) for name, p in zip(self.names, self.present)}
            write_atomically(folder / "present.json", json.dumps(figures, indent=1) + "\n")
        return folder

    def others_in(self, folder: str | Path) -> list[str]:
        """What :meth:`save` would leave in `folder` beside its own: the names of other images' masks and maps."""
        kept = set(self._stems())
        places = [Path(folder) / kind for kind in KINDS if (Path(folder) / kind).is_dir()]
        return sorted({p.stem for place in places for p in list_images(place)} - kept, key=natural_key)

    def _stems(self) -> list[str]:
        stems = [Path(name).stem for name in self.names]
        double = next((s for s in stems if stems.count(s) > 1), None) if len(set(stems)) < len(stems) else None
        if double is not None:
            raise DataError(f"two images are named '{double}'; rename one, their masks would overwrite each other")
        return stems

    def _mask(self, index: int) -> np.ndarray:
        return self._cut(self.probabilities[index], index)

    def _cut(self, probability: np.ndarray, index: int) -> np.ndarray:
        if self.prediction.absent(index) and not self._keep:
            return np.zeros(probability.shape, dtype=bool)
        return binarize(probability, self._rule)[0]
