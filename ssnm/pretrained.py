"""`ssnm.from_pretrained`: from a model file, or one shipped in the package, to what its method offers users."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .errors import CheckpointError, ConfigError, MissingFileError
from .files.places import find
from .methods import part

if TYPE_CHECKING:
    from typing import Sequence

    import torch

    from .coseg.evaluation import Evaluation

ASSETS = Path(__file__).parent / "assets"
SHIPPED = {  # reserved names -> file
    "default": ASSETS / "ssnm_efficientnet_b0.safetensors",
    "video": ASSETS / "osmn_small.safetensors",
}
RUNTIMES = ("torch", "onnx")


def find_model(path: str | Path | None = None) -> Path:
    """The file of a shipped model's name, or a path here or under SSNM_DATA.

    Raises:
        MissingFileError: nothing there, or a shipped model that this installation lacks. CheckpointError: no path.
    """
    if not isinstance(path, (str, os.PathLike, type(None))):
        raise CheckpointError(f"a path of a model file or the name of a shipped one was expected, got {str(path)[:60]}")
    shipped = SHIPPED.get("default" if path is None else str(path))
    if shipped is not None and not shipped.is_file():
        raise MissingFileError(f"{shipped}: the shipped model is missing from this installation; give a checkpoint")
    file = shipped or find(path)
    if not file.exists():
        raise MissingFileError(f"{path}: no such model; give a checkpoint (.pt) or an exported model (.safetensors, or "
                               "a folder of ONNX graphs), here or under SSNM_DATA, or the name of a shipped one: "
                               f"{', '.join(SHIPPED)}")  # fmt: skip
    return file


def from_pretrained(
    path: str | Path | None = None,
    device: "str | torch.device | None" = None,
    method: str | None = None,
    runtime: str | None = None,
) -> Any:
    """Load a model; the method that its file names decides what comes back (co-segmentation: a `CoSegmenter`).

    Args:
        path: a training checkpoint (.pt), an exported model (.safetensors, or a folder of ONNX graphs), here or under
            SSNM_DATA, or the name of a shipped model; None is "default".
        device: "cpu", "cuda", ...; None takes an accelerator where there is one.
        method: the method that the model must be of ("ssnm", "osmn"); None: any.
        runtime: "torch" or "onnx" (onnxruntime on the CPU; a model file is converted first, which takes seconds); None:
            onnx for a folder, torch for a file.

    Raises:
        MissingFileError, CheckpointError: the file is not there, damaged, foreign or of another method.
        ConfigError: no such device or runtime, or a model that this runtime does not run.
        MissingPackageError: onnx and onnxruntime are not installed.
    """
    from .engine.checkpoint import load_model_file
    from .engine.runtime import pick_device

    if runtime not in (None, *RUNTIMES):
        raise ConfigError(f"runtime must be one of {', '.join(RUNTIMES)}, got {runtime!r}")
    file = find_model(path)
    if file.is_dir():
        if runtime == "torch":
            raise ConfigError(f"{file}: a folder holds an ONNX model, which torch does not run; leave the runtime out")
        _require_method("ssnm", method, file)
        return part("ssnm", "onnx.segmenter").load(file, device)
    model_file = load_model_file(file)
    _require_method(model_file.method, method, file)
    if runtime == "onnx":
        if model_file.method != "ssnm":
            raise ConfigError(f"{file}: models of {model_file.method} do not run on onnx; those of ssnm do")
        return part("ssnm", "onnx.segmenter").load_converted(model_file, file, device)
    chosen = pick_device(str(device) if device is not None else None)
    return part(model_file.method, "segmenter", str(file)).load(model_file, file, chosen)


def _require_method(found: str, wanted: str | None, file: Path) -> None:
    if wanted is not None and found != wanted:
        raise CheckpointError(f"{file}: holds a model of {found}, but one of {wanted} is needed here; ssnm segment and "
                              "test take models of ssnm, ssnm video those of osmn")  # fmt: skip


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
