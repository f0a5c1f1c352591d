"""A loaded co-segmentation model for people: photographs in, masks out."""

from __future__ import annotations

from pathlib import Path
from typing import Iterable

import torch

from ..engine.checkpoint import ModelFile
from ..errors import ConfigError
from ..files.given import given_images
from .files import Inference, model_from_file
from .predict import ImageLike, Predictor
from .segmentation import Segmentation


class CoSegmenter:
    """A loaded model for people: `segment` takes photographs, `predictor` is the machinery below it.

    labels: the co-categories the model was trained on; threshold: its own rule that cuts probabilities; card: what its
    file says about data, steps and limits.
    """

    def __init__(self, predictor: Predictor, inference: Inference, card: dict, path: Path) -> None:
        self.predictor, self.card, self.path = predictor, card, path
        self.labels, self.threshold = inference.labels, inference.threshold

    def segment(
        self, images: Iterable[ImageLike], threshold: float | str | None = None, absent: str = "empty"
    ) -> Segmentation:
        """Find what the images have in common.

        Args:
            images: 1 or more file paths, Pillow images, arrays ((H, W), (H, W, 3) or (H, W, 4); uint8, uint16, bool
                or float in [0, 1]) or torch tensors ((3, H, W) or (H, W, 3); uint8 or float in [0, 1]), in any
                iterable; sizes may differ. All of them form one group, however many they are.
            threshold: probability above which a pixel belongs to the mask, or "mean+std" (the release's rule); None:
                the model file's own rule.
            absent: "empty" clears the masks of images that the model holds to be without the object
                (`Segmentation.present` below the model file's cut), "keep" keeps them.

        Raises:
            DataError, MissingFileError: an image that cannot be read; the message names it.
        """
        images = given_images(images)
        prediction = self.predictor.predict(images)
        rule = self.threshold if threshold is None else threshold
        return Segmentation(images, prediction, self.labels, rule, absent)

    def propagate(self, *args, **kwargs):
        """Not of this model.

        Raises:
            ConfigError: always; the message says what to call.
        """
        raise ConfigError("propagate is of video models (ssnm.from_pretrained('video')); this one finds what images "
                          "have in common: segment(images)")  # fmt: skip


def load(file: ModelFile, path: Path, device: torch.device) -> CoSegmenter:
    """What `ssnm.from_pretrained` gives for a file of this method."""
    model, inference = model_from_file(file, str(path))
    return CoSegmenter(Predictor(model, inference.size, device, presence=inference.present), inference, file.card, path)
