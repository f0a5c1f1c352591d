"""The authors' TensorFlow checkpoints of OSMN -> our weights: an explicit table of keys, nothing guessed or skipped.

Called by `ssnm convert osmn SRC DST`. `read_checkpoint` reads any of TensorFlow's files with numpy alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..engine.checkpoint import export_model
from ..errors import CheckpointError, ConfigError
from .build import model_file
from .config import config_from_dict
from .tensorflow_files import read_checkpoint

__all__ = ["Conversion", "Variant", "convert", "from_tensorflow", "key_table", "read_checkpoint", "variant_of"]

AUTHORS_PIXELS = {"mean": [104.0, 117.0, 123.0], "std": [1.0, 1.0, 1.0], "scale": 255.0, "bgr": True}

SCOPE = "osmn/"
ADAM_SLOTS = ("/Adam", "/Adam_1")
FIXED = "seg/score-multi"  # the up-sampling kernels: regenerated, whether the file has them or not
CONVOLUTIONS = (2, 2, 3, 3, 3)  # of VGG16's stages
FOREIGN = (("Conv2d_out_", "lite"), ("modulator/Logits", "lite"), ("seg/fc6_", "deeplab or masktrack"))


@dataclass(frozen=True)
class Variant:
    """Which of the authors' networks: with scales (visual), with shifts (spatial), also in conv1 and conv2 (early)."""

    visual: bool
    spatial: bool
    early: bool

    @property
    def name(self) -> str:
        parts = [("early", self.early), ("no_visual", not self.visual), ("no_spatial", not self.spatial)]
        return "_".join(name for name, holds in parts if holds) or "osvos"


@dataclass(frozen=True)
class Conversion:
    """What was converted. read: variables in the file; left_out: of them those that a model does not need."""

    variant: Variant
    read: int
    left_out: int

    def report(self) -> list[str]:
        """One line each."""
        return [f"variant {self.variant.name}: {self.read - self.left_out} of {self.read} variables taken over, "
                f"{self.left_out} left out (optimiser, step, fixed up-sampling kernels)"]  # fmt: skip


def convert(source: Path, target: Path) -> Conversion:
    """Read the authors' checkpoint `source`, write the model file `target`; it remembers BGR, 0..255 and the mean.

    Raises:
        ConfigError: `target` is not a .safetensors name.
        MissingFileError, CheckpointError: see :func:`read_checkpoint` and :func:`from_tensorflow`.
    """
    if target.suffix != ".safetensors":
        raise ConfigError(f"{target}: the name of a model file ends in .safetensors")
    arrays = read_checkpoint(source)
    variant, weights = from_tensorflow(arrays, str(source))
    config = config_from_dict({"method": "osmn", "model": {
        "name": "osvos", "weights": "none", "visual": variant.visual, "spatial": variant.spatial,
        "early": variant.early, "pixels": AUTHORS_PIXELS}})  # fmt: skip
    step = arrays.get("global_step")
    card = {
        "origin": f"converted from {source.name} of the authors' program (linjieyangsc/video_seg)",
        "variant": variant.name,
        **({} if step is None else {"step": int(step)}),
        "input": "BGR, 0..255, minus (104, 117, 123); each object's own map above one half guides its next frame",
    }
    export_model(target, model_file(config, weights, card))
    taken = len(key_table(variant))
    return Conversion(variant, len(arrays), len(arrays) - taken)


def variant_of(names: set[str], fc8_outputs: int | None) -> Variant:
    """Which network the variables `names` (without the scope osmn/) belong to.

    fc8_outputs: how many scales the file's fc8 gives, None where it has none.

    Raises:
        CheckpointError: one of the baselines that are no part of the method, or no modulator at all.
    """
    for prefix, base in FOREIGN:
        if any(name.startswith(prefix) for name in names):
            raise CheckpointError(f"this checkpoint holds the base model {base} of the authors' program, which is not "
                                  "part of the method here; only osvos (the default) can be converted")  # fmt: skip
    visual = any(name.startswith("modulator/") for name in names)
    spatial = any(name.startswith("modulator_sp/") for name in names)
    if not visual and not spatial:
        raise CheckpointError("this checkpoint holds no modulator of OSMN: no variable starts with osmn/modulator/ or "
                              f"osmn/modulator_sp/ (it has {len(names)} under osmn/)")  # fmt: skip
    early = "modulator_sp/conv1/weights" in names or (not spatial and fc8_outputs == 4224)
    return Variant(visual, spatial, early)


def key_table(variant: Variant) -> dict[str, tuple[str, tuple[int, ...]]]:
    """TensorFlow name without the scope -> (our key, shape in TensorFlow's order) of every variable of a variant."""
    channels = _vgg_channels()
    table: dict[str, tuple[str, tuple[int, ...]]] = {}

    def convolution(name: str, key: str, side: int, inputs: int, outputs: int) -> None:
        table[f"{name}/weights"] = f"{key}.weight", (side, side, inputs, outputs)
        table[f"{name}/biases"] = f"{key}.bias", (outputs,)

    first_stage = 1 if variant.early else 3
    modulated = [c for (stage, _), (_, _, c) in channels.items() if stage >= first_stage]
    for (stage, index), (position, inputs, outputs) in channels.items():
        layer = f"conv{stage}/conv{stage}_{index}"
        convolution(f"seg/{layer}", f"trunk.features.{position}", 3, inputs, outputs)
        if variant.visual:
            convolution(f"modulator/{layer}", f"visual.vgg.features.{position}", 3, inputs, outputs)
    if variant.visual:
        convolution("modulator/fc6", "visual.vgg.pre_logits.fc1", 7, 512, 4096)
        convolution("modulator/fc7", "visual.vgg.pre_logits.fc2", 1, 4096, 4096)
        convolution("modulator/fc8", "visual.fc8", 1, 4096, sum(modulated))
    for number, stage in enumerate(range(first_stage, 6) if variant.spatial else ()):
        total = sum(c for (s, _), (_, _, c) in channels.items() if s == stage)
        name = f"modulator_sp/conv{stage}"
        table[f"{name}/weights"] = f"spatial.convolutions.{number}.weight", (1, 1, 1, total)
        for theirs, ours in (("gamma", "weight"), ("beta", "bias"), ("moving_mean", "running_mean"),
                             ("moving_variance", "running_var")):  # fmt: skip
            table[f"{name}/BatchNorm/{theirs}"] = f"spatial.norms.{number}.{ours}", (total,)
    for number, layer in enumerate(("conv2_2", "conv3_3", "conv4_3", "conv5_3")):
        convolution(f"seg/{layer}_16", f"sides.{number}.convolution", 3, channels[int(layer[4]), int(layer[6])][2], 16)
    convolution("seg/upscore-fuse", "fuse", 1, 64, 1)
    return table


def from_tensorflow(arrays: dict[str, np.ndarray], where: str) -> tuple[Variant, dict[str, Tensor]]:
    """Variables of a checkpoint -> (the network they belong to, its weights under our keys).

    Left out: the optimiser's slots, the step, everything outside the scope osmn/, and the fixed up-sampling kernels.

    Raises:
        CheckpointError: another network; any other variable is missing, too many, or of another shape; numbers that
            are not finite. `where` begins the message.
    """
    theirs = {name.removeprefix(SCOPE): array for name, array in arrays.items()
              if name.startswith(SCOPE) and not name.endswith(ADAM_SLOTS)}  # fmt: skip
    kept = {name: array for name, array in theirs.items() if not name.startswith(FIXED)}
    fc8 = kept.get("modulator/fc8/biases")
    try:
        variant = variant_of(set(kept), None if fc8 is None else int(fc8.size))
    except CheckpointError as error:
        raise CheckpointError(f"{where}: {error}") from None
    table = key_table(variant)
    _compare(table, kept, variant, where)
    weights = {key: _permuted(kept[name]) for name, (key, _) in table.items()}
    for number in range(len([key for key in weights if key.endswith("running_mean")])):
        weights[f"spatial.norms.{number}.num_batches_tracked"] = torch.tensor(0)
    return variant, weights


def _compare(table: dict, kept: dict[str, np.ndarray], variant: Variant, where: str) -> None:
    missing = sorted(SCOPE + name for name in table if name not in kept)
    extra = sorted(SCOPE + name for name in kept if name not in table)
    wrong = sorted(f"{SCOPE}{name} {kept[name].shape} instead of {shape}" for name, (_, shape) in table.items()
                   if name in kept and kept[name].shape != shape)  # fmt: skip
    lists = ((missing, "missing"), (extra, "unexpected"), (wrong, "of another shape"))
    found = [f"{len(names)} {what} ({', '.join(names[:3])}{', ...' if len(names) > 3 else ''})"
             for names, what in lists if names]  # fmt: skip
    if found:
        raise CheckpointError(f"{where} does not hold OSMN's variant {variant.name}: {'; '.join(found)}")
    broken = [SCOPE + name for name in table
              if kept[name].dtype.kind != "f" or not np.isfinite(kept[name]).all()]  # fmt: skip
    if broken:
        raise CheckpointError(f"{where}: {len(broken)} variables hold values that are no finite floating-point "
                              f"numbers (first: {broken[0]})")  # fmt: skip


def _permuted(array: np.ndarray) -> Tensor:
    """Convolutions: height, width, in, out -> out, in, height, width."""
    tensor = torch.from_numpy(np.ascontiguousarray(array, np.float32))
    return tensor.permute(3, 2, 0, 1).contiguous() if tensor.ndim == 4 else tensor


def _vgg_channels() -> dict[tuple[int, int], tuple[int, int, int]]:
    """(stage, index) -> (position in timm's `features`, input channels, output channels) of VGG16."""
    channels, position, inputs = {}, 0, 3
    for stage, count in enumerate(CONVOLUTIONS, start=1):
        outputs = min(64 * 2 ** (stage - 1), 512)
        for index in range(1, count + 1):
            channels[stage, index] = position, inputs, outputs
            position, inputs = position + 2, outputs  # convolution, activation
        position += 1  # pool
    return channels
