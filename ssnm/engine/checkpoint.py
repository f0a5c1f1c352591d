"""Checkpoints: tensors and plain values only, written atomically, read with `weights_only=True`.

Two kinds of file. A *training checkpoint* (.pt) holds all that a run needs to go on. An *exported model*
(.safetensors) holds the weights for users. Both carry the resolved config and the label list, so that a model
is rebuilt from the file alone.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..errors import CheckpointError, MissingFileError

TRAINING_FORMAT = "ssnm-training-1"
MODEL_FORMAT = "ssnm-model-1"


@dataclass(frozen=True)
class ModelFile:
    """What every file of either kind says: the config (plain dict), the label list, the weights, the model card."""

    config: dict
    labels: tuple[str, ...]
    weights: dict[str, Tensor]
    card: dict = field(default_factory=dict)


def save_training(path: str | Path, state: dict[str, Any]) -> None:
    """Write a training checkpoint so that at any moment a whole one exists under `path`.

    The new file is written beside it, flushed to disk, read back, and only then takes the name. A full disk
    or a kill leaves the previous file as it was.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.writing")
    try:
        with open(temporary, "wb") as file:
            torch.save({"format": TRAINING_FORMAT, **state}, file)
            file.flush()
            os.fsync(file.fileno())
        torch.load(temporary, map_location="cpu", weights_only=True, mmap=True)
        os.replace(temporary, path)
    except Exception as error:  # a full disk, or values that the safe reader refuses
        temporary.unlink(missing_ok=True)
        raise CheckpointError(
            f"{path}: the checkpoint could not be written ({_first_line(error)}); the previous one is untouched"
        ) from error
    _sync_folder(path.parent)


def load_training(path: str | Path) -> dict[str, Any]:
    """Read a training checkpoint onto the CPU.

    Raises:
        MissingFileError: no such file.
        CheckpointError: damaged, or not a training checkpoint of this project.
    """
    path = Path(path)
    if not path.is_file():
        raise MissingFileError(f"{path}: no such checkpoint")
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # damaged and foreign files raise many types
        raise CheckpointError(f"{path} cannot be read as a checkpoint ({_first_line(error)})") from error
    if not isinstance(state, dict) or state.get("format") != TRAINING_FORMAT:
        got = state.get("format") if isinstance(state, dict) else type(state).__name__
        raise CheckpointError(
            f"{path} is not a training checkpoint of ssnm (wanted format {TRAINING_FORMAT}, got {got}); for weights "
            "of the authors' release see scripts/convert_release_checkpoint.py"
        )
    return state


def export_model(path: str | Path, model_file: ModelFile, half: bool = False) -> None:
    """Write an exported model; `half` stores floating-point weights in float16 (half the size)."""
    from safetensors.torch import save

    weights = {
        k: (v.half() if half and v.is_floating_point() else v).contiguous().clone()
        for k, v in model_file.weights.items()
    }
    metadata = {
        "format": MODEL_FORMAT,
        "config": json.dumps(model_file.config),
        "labels": json.dumps(list(model_file.labels)),
        "card": json.dumps(model_file.card),
    }
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.writing")
    temporary.write_bytes(save(weights, metadata=metadata))  # save_file would keep other users from reading it
    os.replace(temporary, path)


def load_model_file(path: str | Path) -> ModelFile:
    """Read the model of a training checkpoint (its EMA weights where it has them) or of an exported file.

    Raises:
        MissingFileError, CheckpointError: see :func:`load_training`.
    """
    path = Path(path)
    if path.suffix != ".safetensors":
        state = load_training(path)
        weights = state.get("ema") or state["model"]
        return ModelFile(state["config"], tuple(state["labels"]), weights, {"step": state["step"]})
    if not path.is_file():
        raise MissingFileError(f"{path}: no such model file")
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            weights = {key: file.get_tensor(key) for key in file.keys()}
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path} cannot be read as safetensors ({error})") from error
    if metadata.get("format") != MODEL_FORMAT:
        raise CheckpointError(
            f"{path} is not an exported ssnm model (wanted format {MODEL_FORMAT}, got {metadata.get('format')}); "
            "backbone weights go into model.backbone.weights"
        )
    return ModelFile(
        json.loads(metadata["config"]),
        tuple(json.loads(metadata["labels"])),
        weights,
        json.loads(metadata.get("card", "{}")),
    )


def load_weights(model: torch.nn.Module, weights: dict[str, Tensor], where: str) -> None:
    """Strict loading with a message that counts and names what differs; float16 is widened."""
    own = model.state_dict()
    missing, extra = sorted(set(own) - set(weights)), sorted(set(weights) - set(own))
    wrong = [k for k in own if k in weights and own[k].shape != weights[k].shape]
    if missing or extra or wrong:
        lists = ((missing, "missing"), (extra, "unexpected"), (wrong, "of another shape"))
        details = ", ".join(f"{len(keys)} {what} (first: {keys[0]})" for keys, what in lists if keys)
        raise CheckpointError(f"{where}: the weights do not fit the model its config describes: {details}")
    model.load_state_dict({k: v.to(own[k].dtype) for k, v in weights.items()}, strict=True)


def init_from(model: torch.nn.Module, source: ModelFile, labels: tuple[str, ...], where: str) -> str:
    """Start `model` from another model, whose label list may differ. Returns one line that says what was reset.

    The classifier's rows are carried over by category name; rows of new categories keep their fresh values.

    Raises:
        CheckpointError: anything but the classifier differs in name or shape.
    """
    own = model.state_dict()
    weights = dict(source.weights)
    heads = [k for k in own if k.startswith("semantic.classifier.") and k in weights]
    common = [c for c in labels if c in source.labels]
    for key in heads if labels != source.labels else ():
        fresh = own[key].clone()
        for category in common:
            fresh[labels.index(category)] = weights[key][source.labels.index(category)].to(fresh.dtype)
        weights[key] = fresh
    load_weights(model, weights, where)
    if labels == source.labels or not heads:
        return f"started from {where}: all weights taken over"
    new = [c for c in labels if c not in source.labels]
    return (
        f"started from {where}: label list differs; {len(common)} categories carried over, "
        f"{len(new)} rows of the classifier reset ({', '.join(new[:8])}{', ...' if len(new) > 8 else ''})"
    )


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:150]


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
