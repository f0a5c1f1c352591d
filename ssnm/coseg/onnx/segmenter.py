"""A segmenter that runs on onnxruntime: from an exported folder, or from any model file, converted for the occasion."""

from __future__ import annotations

import tempfile
from pathlib import Path

import torch

from ...engine.checkpoint import ModelFile
from ..files import model_from_file, read_inference
from ..predict import Predictor
from ..segmenter import CoSegmenter
from .export import export_onnx
from .runtime import OnnxModel


def load(folder: Path, device: str | torch.device | None = None, path: Path | None = None) -> CoSegmenter:
    """What `ssnm.from_pretrained` gives for a folder that `ssnm export --format onnx` wrote. path: where the model is
    said to be from, None: the folder.

    Raises:
        MissingFileError, CheckpointError: no such folder, or one that is not whole.
        MissingPackageError: onnxruntime is not installed. ConfigError: another device than the CPU.
    """
    model = OnnxModel(folder, torch.get_num_threads()).to(device or "cpu")
    inference = read_inference(ModelFile("ssnm", {}, model.facts.inference, {}), str(folder))
    predictor = Predictor(model, inference.size, "cpu", presence=inference.present, quality=inference.quality,
                          guidance=inference.guidance)  # fmt: skip
    return CoSegmenter(predictor, inference, model.facts.card, path or folder)


def load_converted(file: ModelFile, path: Path, device: str | torch.device | None = None) -> CoSegmenter:
    """The same from a checkpoint or exported model: it takes some seconds more, every time.

    Raises:
        ConfigError, MissingPackageError: as :func:`ssnm.coseg.onnx.export.export_onnx`.
    """
    model, inference = model_from_file(file, str(path))
    with tempfile.TemporaryDirectory() as folder:  # onnxruntime has read all of it when the model is made
        export_onnx(model, inference, folder, file.card)
        return load(Path(folder), device, path)
