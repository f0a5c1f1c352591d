"""The folder that an exported model is: two graphs, the modulators' weights, and one JSON file that says the rest.

    encoder.onnx    images (N, 3, H, W) float32 RGB in [0, 1] -> level_0 (finest) .. level_K, and phi where it is fused
    head.onnx       level_0 .., gamma (1, D), spatial_mask (1, N, h, w), size (2,) int64 -> logits (N, *size)
    modulator.npz   arrays of the semantic modulator, by their names in torch
    model.json      format, opset, precision, what inference needs, settings of the modulators, model card
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

from ...errors import CheckpointError, MissingFileError, MissingPackageError
from ...files.atomic import write_atomically

FORMAT = "ssnm-onnx-1"
ENCODER, HEAD, MODULATOR, FACTS = "encoder.onnx", "head.onnx", "modulator.npz", "model.json"
OPSET = 18


@dataclass(frozen=True)
class Facts:
    """What model.json says.

    inference: as :class:`ssnm.engine.checkpoint.ModelFile` has it; levels: maps of the encoder; size_multiple: what the
    sides of images must be a multiple of; spatial, semantic: settings of the modulators, or None; precision: "float32"
    or "int8".
    """

    inference: dict[str, Any]
    levels: int
    size_multiple: int
    spatial: dict[str, Any] | None
    semantic: dict[str, Any] | None
    opset: int = OPSET
    precision: str = "float32"
    card: dict[str, Any] = field(default_factory=dict)

    def write(self, folder: Path) -> None:
        """Write model.json.

        Raises:
            DataError: it cannot be written.
        """
        write_atomically(folder / FACTS, json.dumps({"format": FORMAT, **asdict(self)}, indent=1) + "\n")

    @classmethod
    def read(cls, folder: Path) -> Facts:
        """Raises:
            MissingFileError, CheckpointError: no such folder or file; model.json says something else.
        """
        for name in (FACTS, ENCODER, HEAD, MODULATOR):
            if not (folder / name).is_file():
                raise MissingFileError(f"{folder}: an ONNX model is a folder with {ENCODER}, {HEAD}, {MODULATOR} and "
                                       f"{FACTS}, but {name} is not there; ssnm export MODEL FOLDER --format onnx "
                                       "writes one")  # fmt: skip
        try:
            values = json.loads((folder / FACTS).read_text(encoding="utf-8"))
            if values.pop("format") != FORMAT:
                raise ValueError("another format")
            return cls(**values)
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
            raise CheckpointError(f"{folder / FACTS} does not describe an ONNX model of this version of ssnm (format "
                                  f"{FORMAT}: {error}); export it anew")  from None  # fmt: skip


def import_optional(name: str) -> ModuleType:
    """A package of the extra `onnx`.

    Raises:
        MissingPackageError: it is not installed.
    """
    import importlib

    try:
        return importlib.import_module(name)
    except ImportError:
        package = name.partition(".")[0]
        raise MissingPackageError(f'ONNX needs the package {package}: pip install -e ".[onnx]"') from None
