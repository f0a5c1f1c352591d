"""`ssnm.from_pretrained`: from a model file, or one shipped in the package, to what its method offers users."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .errors import CheckpointError, MissingFileError
from .files.places import find
from .methods import part

if TYPE_CHECKING:
    from typing import Sequence

    import torch

    from .coseg.evaluation import Evaluation

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
        path: a training checkpoint (.pt) or exported model (.safetensors), here or under SSNM_DATA, or the name of a
            shipped model; None is "default".
        device: "cpu", "cuda", ...; None takes an accelerator where there is one.
        method: the method that the model must be of ("ssnm", "osmn"); None: any.

    Raises:
        MissingFileError, CheckpointError: the file is not there, damaged, foreign or of another method.
        ConfigError: no such device.
    """
    from .engine.checkpoint import load_model_file
    from .engine.runtime import pick_device

    if not isinstance(path, (str, os.PathLike, type(None))):
        raise CheckpointError(f"a path of a model file or the name of a shipped one was expected, got {str(path)[:60]}")
    shipped = SHIPPED.get("default" if path is None else str(path))
    if shipped is not None and not shipped.is_file():
        raise MissingFileError(f"{shipped}: the shipped model is missing from this installation; give a checkpoint")
    file = shipped or find(path)
    model_file = load_model_file(file)
    if method is not None and model_file.method != method:
        raise CheckpointError(f"{file}: holds a model of {model_file.method}, but one of {method} is needed here; ssnm "
                              "segment and test take models of ssnm, ssnm video those of osmn")  # fmt: skip
    chosen = pick_device(str(device) if device is not None else None)
    return part(model_file.method, "segmenter", str(file)).load(model_file, file, chosen)


def evaluate(
    model: Any,
    dataset: str,
    root: str | Path,
    out: str | Path | None = None,
    protocol: Any = "release",
    classes: "Sequence[str] | None" = None,
    grouping: str = "natural",
    group_size: int = 5,
    seed: int = 0,
) -> "Evaluation":
    """Test a co-segmentation model on a test set, as `ssnm test` does: maps as PNG, scored as files.

        result = ssnm.evaluate("default", "folder", "my_set")
        print(result)          # the table; result.J, result.P, result.scores
        result.panel()         # the images on which it does worst

    Args:
        model: a file, "default" (the shipped model), or what `from_pretrained` gave.
        dataset: pascal_voc, msrc, icoseg, internet, or folder for a set of one's own.
        root: its folder with image/<class>/ and groundtruth/<class>/; a relative one also under SSNM_DATA.
        out: where maps and run.json go; None: a temporary folder that lives as long as the result.
        protocol: a preset's name or a `ssnm.metrics.Protocol`.
        classes: only these, by any of their names.
        grouping, group_size, seed: how classes are cut into groups; see docs/evaluation.md.

    Raises:
        UserError: a model, folder or option that cannot be used, in one line.
    """
    from .coseg.evaluation import evaluate as evaluate_on

    named = model is None or isinstance(model, (str, os.PathLike))
    segmenter = from_pretrained(model, method="ssnm") if named else model
    return evaluate_on(segmenter, dataset, find(root), out, protocol, classes, grouping, group_size, seed)
