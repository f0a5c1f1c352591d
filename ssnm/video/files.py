"""OSMN's model files: what the export command writes, and how a run starts from one."""

from __future__ import annotations

from pathlib import Path

from torch import nn

from ..engine.checkpoint import ModelFile
from ..errors import ConfigError
from ..nn.weights import load_weights
from .settings import Settings


def for_export(file: ModelFile, where: str) -> ModelFile:
    """The file as it is, after a look at what it says about inference."""
    Settings.from_dict(file.inference, where)
    return file


def init_from(model: nn.Module, source: ModelFile, where: str | Path) -> str:
    """Start `model` from another model. Returns one line that says so.

    Raises:
        ConfigError: a model of another method.
        CheckpointError: a key that is missing, too many or of another shape.
    """
    if source.method != "osmn":
        raise ConfigError(f"{where} holds a model of method {source.method}; osmn starts from models of osmn")
    load_weights(model, source.weights, str(where))
    return f"started from {where}: all weights taken over"
