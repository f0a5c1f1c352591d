"""From the float32 package to one of 8 bits: static quantisation, with ranges that photographs show.

The large convolutions of encoder and head are quantised, weights per channel and in 7 bits: two products of 8 bits by 8
do not fit the 16 bits in which processors without VNNI add them. Depthwise and small convolutions, squeeze-and-excite
and the activations stay as they are: of EfficientNet-B0 they hold few of the weights and most of the loss. So do the
modulators. The head is calibrated on what it will see: the maps and the modulation of whole groups.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image
from torch import nn

from ...files.atomic import replacing, write_atomically
from ...files.images import load_rgb
from .export import export_onnx
from .network import OnnxNetwork
from .package import ENCODER, HEAD, MODULATOR, Facts, import_optional

if TYPE_CHECKING:
    from ..files import Inference

MOST = 200  # images: the ranges of the maps change no more
CHUNK = 5  # images of a group at once
LARGE = 4096  # weights of a convolution from which on it is quantised

Feed = dict[str, np.ndarray]


def export_int8(
    model: nn.Module, inference: Inference, folder: str | Path, card: dict[str, Any], groups: Sequence[Sequence[Path]]
) -> Facts:
    """Write a model as a package of 8 bits.

    Args:
        groups: files of images, those of one group together; of large groups the first images, MOST in all.

    Raises:
        ConfigError, MissingPackageError, DataError: see :func:`ssnm.coseg.onnx.export.export_onnx`; an image that
            cannot be read.
    """
    tools = import_optional("onnxruntime.quantization")
    folder = Path(folder)
    with tempfile.TemporaryDirectory() as exact:
        facts = replace(export_onnx(model, inference, exact, card), precision="int8")
        network = OnnxNetwork(exact)
        feeds = list(_feeds(network, inference.size, groups))
        for place, name in enumerate((ENCODER, HEAD)):
            with replacing(folder / name) as partial:
                tools.quantize_static(
                    Path(exact) / name, partial, _reader(tools, [feed[place] for feed in feeds]),
                    quant_format=tools.QuantFormat.QDQ, per_channel=True, reduce_range=True,
                    activation_type=tools.QuantType.QUInt8, weight_type=tools.QuantType.QInt8,
                    nodes_to_quantize=_large_convolutions(Path(exact) / name),
                )  # fmt: skip
        write_atomically(folder / MODULATOR, (Path(exact) / MODULATOR).read_bytes())
    facts.write(folder)
    return facts


def _large_convolutions(file: Path) -> list[str]:
    """Names of the nodes of a graph that are worth 8 bits; timm's squeeze-and-excite modules are called `se`."""
    graph = import_optional("onnx").load(file).graph
    sizes = {weights.name: int(np.prod(weights.dims)) for weights in graph.initializer}
    grouped = lambda node: any(a.name == "group" and a.i > 1 for a in node.attribute)  # noqa: E731
    return [node.name for node in graph.node
            if node.op_type == "Conv" and not grouped(node) and "/se/" not in node.name
            and sizes.get(node.input[1], 0) >= LARGE]  # fmt: skip


def _feeds(network: OnnxNetwork, size: int, groups: Sequence[Sequence[Path]]) -> Iterator[tuple[Feed, Feed]]:
    """What encoder and head are given, by chunks of groups."""
    each = max(CHUNK, MOST // len(groups))
    chunks = [group[i : i + CHUNK] for group in groups for i in range(0, min(len(group), each), CHUNK)]
    for files in chunks[: -(-MOST // CHUNK)]:
        images = np.stack([_read(file, size) for file in files])
        levels, phi = network.encode(images)
        gamma, mask, _ = network.modulate(levels, phi)
        yield {"images": images}, network.head_inputs(levels, gamma, mask, (size, size))
        if network.guidance:
            own = next(network.alone(levels, mask))
            yield {"images": images[:1]}, network.head_inputs(*own, (size, size))


def _read(file: Path, size: int) -> np.ndarray:
    """(3, S, S) float32 in [0, 1], as the predictor resizes."""
    resized = Image.fromarray(load_rgb(file).array).resize((size, size), Image.Resampling.BILINEAR)
    return np.asarray(resized, dtype=np.float32).transpose(2, 0, 1) / 255


def _reader(tools: Any, feeds: list[Feed]) -> Any:
    """Feeds as onnxruntime's calibration asks for them."""

    class Reader(tools.CalibrationDataReader):
        def __init__(self) -> None:
            self._left = iter(feeds)

        def get_next(self) -> Feed | None:
            return next(self._left, None)

    return Reader()
