"""From a network to the two graphs of a package. Images of any number; of any size where the network allows it."""

from __future__ import annotations

import io
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from ...errors import ConfigError
from ...files.atomic import arrays_bytes, write_atomically
from ..model import SSNM
from ..records import Modulation
from .package import ENCODER, HEAD, MODULATOR, OPSET, Facts, import_optional

if TYPE_CHECKING:
    from ..files import Inference

EXAMPLE = (3, 160, 192)  # images, height, width: no two maps of a level share a side with those of the next


class Encoder(nn.Module):
    """What the network does to each image by itself."""

    def __init__(self, model: SSNM) -> None:
        super().__init__()
        self.backbone, self.fusion = model.backbone, model.fusion

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """(N, 3, H, W) in [0, 1] -> the levels, finest first, and phi where it is fused of them."""
        levels = self.backbone(images)
        return tuple(levels) if self.fusion is None else (*levels, self.fusion(levels))


class Head(nn.Module):
    """What the network does to each image once the modulation of its group is known."""

    def __init__(self, model: SSNM) -> None:
        super().__init__()
        self.model = model

    def forward(self, levels: list[Tensor], modulation: dict[str, Tensor], size: Tensor) -> Tensor:
        """Levels of N images, {gamma (1, D), spatial_mask (1, N, h, w)}, size (2,) -> logits (N, *size)."""
        told = Modulation(modulation.get("spatial_mask"), modulation.get("gamma"))
        return self.model.segment(levels, told, (size[0], size[1]))


def export_onnx(model: nn.Module, inference: Inference, folder: str | Path, card: dict[str, Any]) -> Facts:
    """Write a model as a package (:mod:`ssnm.coseg.onnx.package`).

    Raises:
        ConfigError: a network that cannot be exported (the authors' release).
        MissingPackageError: onnx is not installed. DataError: the folder cannot be written.
    """
    import_optional("onnx")
    if not isinstance(model, SSNM):
        raise ConfigError("the release's model solves its modulator inside the network and is not exported to ONNX; "
                          "models of the paper's variant are")  # fmt: skip
    model, folder = model.cpu().eval(), Path(folder)
    levels = [f"level_{k}" for k in range(len(model.project))]
    images = torch.zeros(EXAMPLE[0], 3, *EXAMPLE[1:])
    with torch.no_grad():
        maps = model.backbone(images)
    encoded = [*levels, *([] if model.fusion is None else ["phi"])]
    axes = {name: {0: "images", 2: f"height_{name}", 3: f"width_{name}"} for name in ("images", *encoded)}
    write_atomically(folder / ENCODER, _graph(Encoder(model), (images,), ["images"], encoded, axes))
    modulation = {} if model.semantic is None else {"gamma": torch.ones(1, model.project[0].out_channels)}
    if model.spatial is not None:
        modulation["spatial_mask"] = torch.zeros(1, EXAMPLE[0], *maps[-1].shape[-2:])
        axes["spatial_mask"] = {1: "images", 2: f"height_{levels[-1]}", 3: f"width_{levels[-1]}"}
    axes = {name: axes[name] for name in (*levels, *(set(modulation) & set(axes)))}
    axes["logits"] = {0: "images", 1: "height", 2: "width"}
    given = (maps, modulation, torch.tensor(EXAMPLE[1:]))
    write_atomically(folder / HEAD, _graph(Head(model), given, [*levels, *modulation, "size"], ["logits"], axes))
    return _write_rest(model, inference, folder, card)


def _write_rest(model: SSNM, inference: Inference, folder: Path, card: dict[str, Any]) -> Facts:
    spatial, semantic = model.spatial, model.semantic
    weights = {} if semantic is None else semantic.state_dict()
    arrays = {name: tensor.numpy().astype(np.float32) for name, tensor in weights.items()}
    write_atomically(folder / MODULATOR, arrays_bytes(arrays))
    pooling = None if semantic is None else semantic.image_pooling
    whole = model.fusion is None and model.backbone.size_multiple == 1
    facts = Facts(
        inference=inference.to_dict(),
        levels=len(model.project),
        size_multiple=1 if whole else max(level.stride for level in model.backbone.levels),
        spatial=None if spatial is None else {"orientation": spatial.orientation, "scale": spatial.scale},
        semantic=None if semantic is None else {
            "activation": _name_of(pooling.activation), "gamma_activation": _name_of(semantic.gamma_activation),
            "centred": pooling.centred, "normalisation": pooling.normalisation,
        },
        card=card,
    )  # fmt: skip
    facts.write(folder)
    return facts


def _name_of(activation: nn.Module) -> str:
    return "relu" if isinstance(activation, nn.ReLU) else "none"


def _graph(module: nn.Module, example: tuple, inputs: list[str], outputs: list[str], axes: dict) -> bytes:
    """An ONNX graph as bytes. By tracing: the exporter of torch.export takes a minute per graph of this kind, nearly
    all of it for the arithmetic of unknown sizes, and the shapes that decide in Python (sides that are equal or are
    not) are those of :data:`EXAMPLE` for every image."""
    buffer = io.BytesIO()
    with warnings.catch_warnings(), torch.no_grad():
        for said in (torch.jit.TracerWarning, DeprecationWarning):  # tracing is meant
            warnings.simplefilter("ignore", said)
        torch.onnx.export(module, example, buffer, input_names=inputs, output_names=outputs, dynamic_axes=axes,
                          opset_version=OPSET, dynamo=False)  # fmt: skip
    return buffer.getvalue()
