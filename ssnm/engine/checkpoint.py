"""Checkpoints: tensors and plain values only, written atomically, read with `weights_only=True`.

Two kinds of file. A *training checkpoint* (.pt) holds all that a run needs to go on, its resolved config among it. An
*exported model* (.safetensors) holds the network for users: method, the config's `model` section, weights, and what
inference needs beside them. A model is rebuilt from either alone.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..errors import CheckpointError, MissingFileError, UserError
from ..files.atomic import replacing
from ..files.unreadable import why_unreadable

TRAINING_FORMAT = "ssnm-training-2"
MODEL_FORMAT = "ssnm-model-2"
OLD_FORMATS = ("ssnm-training-1", "ssnm-model-1")  # of version 0.1, which knew one method


@dataclass(frozen=True)
class ModelFile:
    """What every file of either kind says.

    method: its name in the table of methods; config: the resolved config as a plain dict, of an exported model its
    `model` section alone; inference: what prediction needs beside the network (SSNM: labels, size, threshold), plain
    values, as the method wrote them; weights; card: what is told about data, steps and limits.
    """

    method: str
    config: dict
    inference: dict
    weights: dict[str, Tensor]
    card: dict = field(default_factory=dict)


def save_training(path: str | Path, state: dict[str, Any]) -> None:
    """Write a training checkpoint so that at any moment a whole one exists under `path`.

    state: tensors and plain values; `method`, `config` and `inference` as :class:`ModelFile` has them, and what
    `TrainState.state_dict` gives. The new file is written beside the old one, read back, and only then takes its name.

    Raises:
        CheckpointError: it could not be written; the previous file is as it was.
    """
    path = Path(path)
    try:
        with replacing(path) as partial:
            with open(partial, "wb") as file:  # a full disk then is an OSError, not a riddle of torch's own writer
                torch.save({"format": TRAINING_FORMAT, **state}, file)
            torch.load(partial, map_location="cpu", weights_only=True, mmap=True)
    except Exception as error:  # a full disk, or values that the safe reader refuses
        raise CheckpointError(
            f"{path}: the checkpoint could not be written ({_first_line(error)}); the previous one is untouched"
        ) from error


def load_training(path: str | Path) -> dict[str, Any]:
    """Read a training checkpoint onto the CPU; one of version 0.1 comes back in today's form.

    Raises:
        MissingFileError: no such file.
        CheckpointError: damaged, of a newer version, or not a training checkpoint of this package.
    """
    path = Path(path)
    if not path.is_file():
        raise MissingFileError(f"{path}: no such checkpoint")
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # damaged and foreign files raise many types
        raise CheckpointError(f"{path} cannot be read as a checkpoint ({why_unreadable(path, error)})") from error
    found = state.get("format") if isinstance(state, dict) else type(state).__name__
    _require_format(path, found, TRAINING_FORMAT, "a training checkpoint of ssnm",
                    "for weights of the authors' release see docs/release.md")  # fmt: skip
    if found in OLD_FORMATS:
        labels = state.pop("labels", ())
        state |= {"format": TRAINING_FORMAT, "method": "ssnm", "inference": {"labels": list(labels)}}
    networks = state.get("model"), state.get("ema") or {}
    if not isinstance(state.get("step"), int) or not all(_are_tensors(network) for network in networks):
        raise CheckpointError(f"{path} is damaged: it lacks its step or its network; take another checkpoint")
    return state


def export_model(path: str | Path, file: ModelFile, half: bool = False) -> None:
    """Write an exported model; `half` stores floating-point weights in float16 (half the size).

    Raises:
        DataError: it could not be written; what was there before is as it was.
    """
    from safetensors.torch import save

    weights = {
        k: (v.half() if half and v.is_floating_point() else v).contiguous().clone() for k, v in file.weights.items()
    }
    metadata = {
        "format": MODEL_FORMAT,
        "method": file.method,
        "config": json.dumps({"model": file.config["model"]}),
        "inference": json.dumps(file.inference),
        "card": json.dumps(file.card),
    }
    with replacing(path) as partial:
        partial.write_bytes(save(weights, metadata=metadata))  # save_file would keep other users from reading it


def load_model_file(path: str | Path) -> ModelFile:
    """Read the model of a training checkpoint (its EMA weights where it has them) or of an exported file.

    Raises:
        MissingFileError, CheckpointError: see :func:`load_training`.
    """
    path = Path(path)
    if path.suffix != ".safetensors":
        state = load_training(path)
        parts = state.get("method"), state.get("config"), state.get("inference"), state.get("ema") or state["model"]
        return _checked(ModelFile(*parts, {"step": state["step"]}), path)
    if not path.is_file():
        raise MissingFileError(f"{path}: no such model file")
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as content:
            metadata = content.metadata() or {}
            weights = {key: content.get_tensor(key) for key in content.keys()}
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path} cannot be read as safetensors ({why_unreadable(path, error)})") from error
    _require_format(path, metadata.get("format"), MODEL_FORMAT, "an exported ssnm model",
                    "backbone weights go into model.backbone.weights")  # fmt: skip
    try:
        values = {key: json.loads(metadata.get(key, "{}")) for key in ("config", "inference", "card")}
        if "labels" in metadata:  # version 0.1
            values["inference"] = {"labels": json.loads(metadata["labels"])}
    except ValueError as error:
        raise CheckpointError(f"{path} is damaged: its description is not JSON ({error}); take another copy") from None
    parts = metadata.get("method", "ssnm"), values["config"], values["inference"], weights, values["card"]
    return _checked(ModelFile(*parts), path)


def _checked(file: ModelFile, path: Path) -> ModelFile:
    """The file, if its parts are of the kinds that every reader takes them for.

    Raises:
        CheckpointError: one is not.
    """
    mappings = {"config": file.config, "inference": file.inference, "card": file.card}
    wrong = [name for name, value in mappings.items() if not isinstance(value, dict)]
    wrong += ["method"] if not isinstance(file.method, str) else []
    wrong += ["config"] if "config" not in wrong and not isinstance(file.config.get("model"), dict) else []
    if wrong:
        raise CheckpointError(f"{path} is damaged: it lacks its {' and '.join(wrong)}; take another copy")
    return file


def _are_tensors(network: Any) -> bool:
    return isinstance(network, dict) and all(isinstance(value, Tensor) for value in network.values())


def _require_format(path: Path, found: Any, wanted: str, kind: str, hint: str) -> None:
    """The format of today or of version 0.1; a higher number of the same kind is a file of a newer version."""
    base, number = wanted.rsplit("-", 1)
    if found == wanted or (found in OLD_FORMATS and str(found).startswith(base)):
        return
    theirs = str(found).removeprefix(f"{base}-")
    if theirs.isdigit() and int(theirs) > int(number):
        raise CheckpointError(f"{path} was written by a newer version of ssnm (format {found}, this one reads up to "
                              f"{base}-{number}); update the package")  # fmt: skip
    raise CheckpointError(f"{path} is not {kind} (wanted format {wanted}, got {found}); {hint}")


def _first_line(error: Exception) -> str:
    if isinstance(error, UserError):
        return str(error).partition(": ")[2] or str(error)
    return (str(error).strip() or type(error).__name__).splitlines()[0][:150]
