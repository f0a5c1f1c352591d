"""From the state dict of the authors' release to the one of :class:`ssnm.coseg.release.model.SSNMRelease`.

Every layer of both sides stands in one table with the shape of its weight. Nothing is guessed from similar names:
a key that is not in the table, or a tensor of another shape, is an error.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ...errors import CheckpointError
from ...nn.weights import key_differences, require_finite

NUM_CATEGORIES = 78
NORM_BUFFERS = ("running_mean", "running_var")
COUNTER = "num_batches_tracked"


@dataclass(frozen=True)
class Layer:
    """One layer under its name in the release and in this package; `outputs` is the length of its bias."""

    release: str
    own: str
    weight: tuple[int, ...]
    outputs: int


def _base() -> list[Layer]:
    """VGG16-BN's feature layers (index, input channels, output channels), each followed by its batch norm."""
    convolutions = (
        (0, 3, 64),
        (3, 64, 64),
        (7, 64, 128),
        (10, 128, 128),
        (14, 128, 256),
        (17, 256, 256),
        (20, 256, 256),
        (24, 256, 512),
        (27, 512, 512),
        (30, 512, 512),
        (34, 512, 512),
        (37, 512, 512),
        (40, 512, 512),
    )
    rows = []
    for i, c_in, c_out in convolutions:
        rows.append(Layer(f"base.{i}", f"backbone.net.features.{i}", (c_out, c_in, 3, 3), c_out))
        rows.append(Layer(f"base.{i + 1}", f"backbone.net.features.{i + 1}", (c_out,), c_out))
    return rows


LAYERS: tuple[Layer, ...] = (
    *_base(),
    Layer("incr_channel1.0", "widen.0.0", (512, 128, 3, 3), 512),
    Layer("incr_channel1.1", "widen.1.0", (512, 256, 3, 3), 512),
    Layer("incr_channel1.2", "widen.2.0", (512, 512, 3, 3), 512),
    Layer("incr_channel1.3", "widen.3.0", (512, 512, 3, 3), 512),
    Layer("incr_channel2.0", "widen.0.1", (512, 512, 3, 3), 512),
    Layer("incr_channel2.1", "widen.1.1", (512, 512, 3, 3), 512),
    Layer("incr_channel2.2", "widen.2.1", (512, 512, 3, 3), 512),
    Layer("incr_channel2.3", "widen.3.1", (512, 512, 3, 3), 512),
    Layer("sp1.0", "semantic.reduce_image", (64, 512, 1, 1), 64),
    Layer("sp2.0", "semantic.reduce_group", (32, 4096, 1, 1), 32),
    Layer("cls_m.0", "semantic.expand", (512, 1024), 512),
    Layer("cls.0", "semantic.classifier", (NUM_CATEGORIES, 512), NUM_CATEGORIES),
    Layer("concat4.0", "decoder.shared.lateral", (512, 512, 1, 1), 512),
    Layer("concat4.2", "decoder.shared.smooth", (512, 512, 3, 3), 512),
    Layer("concat4.4", "decoder.shared.upsample", (512, 512, 4, 4), 512),
    Layer("concat1.0", "decoder.finest.lateral", (512, 512, 1, 1), 512),
    Layer("concat1.2", "decoder.finest.smooth", (512, 512, 3, 3), 512),
    Layer("mask.0", "decoder.predict", (2, 512, 3, 3), 2),
    Layer("mask.1", "decoder.upsample", (2, 2, 8, 8), 2),
)
# Three names of one set of layers in the release: (kept, its copies).
SHARED = ("concat4", ("concat3", "concat2"))


@dataclass(frozen=True)
class KeyRow:
    """One tensor: its key on both sides and its shape. `own` is None for a copy of a shared layer."""

    release: str
    own: str | None
    shape: tuple[int, ...]


def key_table() -> list[KeyRow]:
    """All tensors of the release in order, copies of shared layers included, batch norm counters left out."""
    rows = []
    for layer in LAYERS:
        for name, shape in _tensors(layer):
            rows.append(KeyRow(f"{layer.release}.{name}", f"{layer.own}.{name}", shape))
    kept, copies = SHARED
    for copy in copies:
        originals = [row for row in rows if row.release.startswith(kept + ".")]
        rows += [KeyRow(_renamed(row.release, kept, copy), None, row.shape) for row in originals]
    return rows


def _tensors(layer: Layer) -> list[tuple[str, tuple[int, ...]]]:
    tensors = [("weight", layer.weight), ("bias", (layer.outputs,))]
    if _is_norm(layer):
        tensors += [(name, (layer.outputs,)) for name in NORM_BUFFERS]
    return tensors


def _is_norm(layer: Layer) -> bool:
    return len(layer.weight) == 1


def _renamed(key: str, prefix: str, new: str) -> str:
    return new + key[len(prefix) :]


@dataclass(frozen=True)
class Conversion:
    """weights: the state dict of SSNMRelease; rows: the tensors it was made of; counters: batch norm counters read."""

    weights: dict[str, Tensor]
    rows: tuple[KeyRow, ...]
    counters: int

    def report(self) -> list[str]:
        """What was converted, one line per tensor and a summary."""
        kept = [row for row in self.rows if row.own is not None]
        width = max(len(row.release) for row in self.rows)
        lines = []
        for row in self.rows:
            target = row.own or f"= {_renamed(row.release, row.release.partition('.')[0], SHARED[0])}"
            lines.append(f"{row.release:<{width}}  ->  {target}  {'x'.join(map(str, row.shape))}")
        values = sum(self.weights[row.own].numel() for row in kept)
        norms = sum(_is_norm(layer) for layer in LAYERS)
        lines.append(f"{len(kept)} tensors taken over ({values:,} values), all of the expected shapes")
        lines.append(f"{len(self.rows) - len(kept)} tensors are copies of {SHARED[0]} and equal to it, kept once")
        lines.append(f"{self.counters} of {norms} batch norm counters present; the others start at 0")
        return lines


def convert_state_dict(tensors: dict[str, Tensor], where: str) -> Conversion:
    """The release's tensors -> the state dict of SSNMRelease with 78 categories, in float32.

    A `module.` prefix on every key (nn.DataParallel) is taken off. Batch norm counters may be absent.

    Raises:
        CheckpointError: missing or unknown keys, another shape, values that are not finite, or shared decoder
            layers that differ under their three names.
    """
    if tensors and all(key.startswith("module.") for key in tensors):
        tensors = {key.removeprefix("module."): value for key, value in tensors.items()}
    rows = key_table()
    counters = {f"{layer.release}.{COUNTER}": f"{layer.own}.{COUNTER}" for layer in LAYERS if _is_norm(layer)}
    _check_keys(tensors, rows, set(counters), where)
    _check_copies(tensors, rows, where)
    weights = {row.own: tensors[row.release].float() for row in rows if row.own is not None}
    for release, own in counters.items():
        weights[own] = tensors.get(release, torch.zeros((), dtype=torch.long)).long()
    return Conversion(weights, tuple(rows), sum(key in tensors for key in counters))


def _check_keys(tensors: dict[str, Tensor], rows: list[KeyRow], optional: set[str], where: str) -> None:
    expected = {row.release: row.shape for row in rows} | {key: () for key in optional if key in tensors}
    if different := key_differences(expected, tensors):
        raise CheckpointError(
            f"{where} is not a checkpoint of the authors' release: {', '.join(different)}; wanted its {len(rows)} "
            "tensors (for base layers alone use model.backbone.weights)"
        )
    require_finite(tensors, where)


def _check_copies(tensors: dict[str, Tensor], rows: list[KeyRow], where: str) -> None:
    kept, copies = SHARED
    for row in rows:
        if not row.release.startswith(kept + "."):
            continue
        for copy in copies:
            twin = _renamed(row.release, kept, copy)
            if not torch.equal(tensors[row.release], tensors[twin]):
                difference = (tensors[row.release].float() - tensors[twin].float()).abs().max()
                raise CheckpointError(
                    f"{where}: {twin} differs from {row.release} by up to {difference:.3g}, but the release shares "
                    "these layers; give a checkpoint whose three decoder levels are one"
                )
