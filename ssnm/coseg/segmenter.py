"""A loaded co-segmentation model for people: photographs in, masks out."""

from __future__ import annotations

from pathlib import Path
from typing import Callable, Iterable, Mapping, Sequence

import numpy as np
import torch

from ..engine.checkpoint import ModelFile
from ..errors import ConfigError
from ..files.given import given_images, name_of
from .files import Inference, model_from_file
from .predict import GroupPrediction, ImageLike, Predictor
from .reference import check_reference
from .segmentation import SAVED, Segmentation, rule_of
from .streams import Reading, Stage, Writing


class CoSegmenter:
    """A loaded model for people: `segment` takes photographs, `predictor` is the machinery below it.

    labels: the co-categories the model was trained on; threshold: its own rule that cuts probabilities; card: what its
    file says about data, steps and limits.
    """

    def __init__(self, predictor: Predictor, inference: Inference, card: dict, path: Path) -> None:
        self.predictor, self.card, self.path = predictor, card, path
        self.labels, self.threshold = inference.labels, inference.threshold

    def segment(
        self,
        images: Iterable[ImageLike],
        threshold: float | str | None = None,
        absent: str = "empty",
        *,
        reference: Mapping[str | int, np.ndarray] | None = None,
        save_to: str | Path | None = None,
        save: Sequence[str] = SAVED,
        on_bad: Callable[[str], None] | None = None,
        progress: Stage = lambda stage, done, total: None,
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
            reference: {name as in `names`, or index: (H, W) mask of the upright photograph, bool or 0/255}: images
                whose object is known. Their objects' pixels alone say what is looked for in the others; they come back
                with these masks.
            save_to: a folder to write to while the network runs; see :meth:`Segmentation.save` for the files.
            save: the kinds of files.
            on_bad: told, in one line, of each image that cannot be read, which is then left out; None: an error.
            progress: told how far it is.

        Raises:
            DataError, MissingFileError: an image that cannot be read; the message names it. A reference that does not
                fit. With save_to: what cannot be written, after everything else is.
        """
        images = given_images(images)
        threshold = self.threshold if threshold is None else threshold
        rule_of(threshold, absent)
        names = [name_of(image, i) for i, image in enumerate(images)]
        reading = Reading(self.predictor, images, names, check_reference(reference or {}, names), on_bad, progress)
        writing = None if save_to is None else Writing(Path(save_to), save, names)

        def result(part: GroupPrediction, begin: int) -> Segmentation:
            own = slice(begin, begin + len(part))
            return Segmentation(reading.images[own], part, self.labels, threshold, absent, reading.shown[own],
                                reading.names[own])  # fmt: skip

        def ready(begin: int, part: GroupPrediction) -> None:
            if writing is not None:
                writing.add(result(part, begin))
            progress("segmented", begin + len(part), len(reading.images))

        try:
            whole = result(self.predictor.predict_photos(reading, ready), 0)
            if writing is not None:
                writing.finish(whole)
            return whole
        finally:
            if writing is not None:
                writing.stop()

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
    model = model.to(memory_format=torch.channels_last)  # a fifth to a third faster on processors
    predictor = Predictor(model, inference.size, device, presence=inference.present, quality=inference.quality,
                          guidance=inference.guidance)  # fmt: skip
    return CoSegmenter(predictor, inference, file.card, path)
