"""`ssnm.from_pretrained`: from a model file, or one shipped in the package, to what its method offers users."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from .errors import CheckpointError, MissingFileError
from .methods import part

if TYPE_CHECKING:
    import torch

ASSETS = Path(__file__).parent / "assets"
SHIPPED = {  # reserved names -> file
    "default": ASSETS / "ssnm_mobilenetv2.safetensors",
    "video": ASSETS / "osmn_small.safetensors",
}


def from_pretrained(
    path: str | Path | None = None, device: "str | torch.device | None" = None, method: str | None = None
) -> Any:
    """Load a model; the method that its file names decides what comes back (co-segmentation: a `CoSegmenter`).

    Args:
        path: a training checkpoint (.pt) or exported model (.safetensors), or the name of a shipped model; None is
            "default".
        device: "cpu", "cuda", ...; None takes an accelerator where there is one.
        method: the method that the model must be of ("ssnm", "osmn"); None: any.

    Raises:
        MissingFileError, CheckpointError: the file is not there, damaged, foreign or of another method.
        ConfigError: no such device.
    """
    from .engine.checkpoint import load_model_file
    from .engine.runtime import pick_device

    shipped = SHIPPED.get("default" if path is None else str(path))
    if shipped is not None and not shipped.is_file():
        raise MissingFileError(f"{shipped}: the shipped model is missing from this installation; give a checkpoint")
    file = shipped or Path(path)
    model_file = load_model_file(file)
    if method is not None and model_file.method != method:
        raise CheckpointError(f"{file}: holds a model of {model_file.method}, but one of {method} is needed here; ssnm "
                              "segment and test take models of ssnm, ssnm video those of osmn")  # fmt: skip
    chosen = pick_device(str(device) if device is not None else None)
    return part(model_file.method, "segmenter", str(file)).load(model_file, file, chosen)
