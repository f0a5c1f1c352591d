"""`ssnm.from_pretrained`: from a checkpoint file, or the model shipped in the package, to a ready segmenter."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Sequence

from .coseg.build import build_predictor, model_from_file
from .coseg.predict import Predictor
from .coseg.segmentation import Segmentation
from .engine.checkpoint import load_model_file
from .engine.runtime import pick_device
from .errors import MissingFileError

if TYPE_CHECKING:
    import torch

    from .coseg.predict import ImageLike

SHIPPED = Path(__file__).parent / "assets" / "ssnm_mobilenetv2.safetensors"


class CoSegmenter:
    """A loaded model for people: `segment` takes photographs, `predictor` is the machinery below it.

    labels: the co-categories the model was trained on; card: what its file says about data, steps and limits.
    """

    def __init__(self, predictor: Predictor, labels: tuple[str, ...], card: dict, path: Path) -> None:
        self.predictor, self.labels, self.card, self.path = predictor, labels, card, path

    def segment(self, images: "Sequence[ImageLike]", threshold: float | str = 0.5) -> Segmentation:
        """Find what the images have in common.

        Args:
            images: 1 or more file paths, Pillow images or arrays ((H, W), (H, W, 3) or (H, W, 4); uint8, uint16,
                bool or float in [0, 1]); sizes may differ. All of them form one group, however many they are.
            threshold: probability above which a pixel belongs to the mask, or "mean+std" (the release's rule).

        Raises:
            DataError, MissingFileError: an image that cannot be read; the message names it.
        """
        prediction = self.predictor.predict(images)
        return Segmentation(list(images), prediction, self.labels, threshold)


def from_pretrained(path: str | Path | None = None, device: "str | torch.device | None" = None) -> CoSegmenter:
    """Load a model.

    Args:
        path: a training checkpoint (.pt) or exported model (.safetensors); None or "default" is the model shipped
            in the package.
        device: "cpu", "cuda", ...; None takes an accelerator where there is one.

    Raises:
        MissingFileError, CheckpointError: the file is not there, damaged or foreign.
    """
    file = SHIPPED if path in (None, "default") else Path(path)
    if file == SHIPPED and not SHIPPED.is_file():
        raise MissingFileError(f"{SHIPPED}: the shipped model is missing from this installation; give a checkpoint")
    model_file = load_model_file(file)
    model, config = model_from_file(model_file, str(file))
    predictor = build_predictor(model, config, pick_device(str(device) if device is not None else None))
    return CoSegmenter(predictor, model_file.labels, model_file.card, file)
