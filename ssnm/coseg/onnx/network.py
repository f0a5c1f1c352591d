"""An exported model at work: onnxruntime for the graphs, numpy between them. No torch.

N images of one group, S side of the square input, L co-categories.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from ...errors import CheckpointError, DataError
from ..guidance import as_guidance, guided, segments_alone
from ..presence import agreement_of_codes, shares, sigmoid
from .modulator import SemanticModulator, SpatialModulator
from .package import ENCODER, HEAD, MODULATOR, Facts, import_optional


class OnnxNetwork:
    """The parts of SSNM that :class:`ssnm.coseg.model.SSNM` has, on arrays.

    Args:
        folder: what `ssnm export MODEL FOLDER --format onnx` wrote.
        threads: of onnxruntime; 0: as many as it likes.

    Raises:
        MissingFileError, CheckpointError: no such folder, or files in it that are missing or damaged.
        MissingPackageError: onnxruntime is not installed.
    """

    def __init__(self, folder: str | Path, threads: int = 0) -> None:
        folder = Path(folder)
        self.facts = Facts.read(folder)
        self._encoder, self._head = (_session(folder / name, threads) for name in (ENCODER, HEAD))
        try:
            with np.load(folder / MODULATOR) as arrays:
                weights = {name: arrays[name].astype(np.float32) for name in arrays.files}
            spatial, semantic = self.facts.spatial, self.facts.semantic
            self.spatial = None if spatial is None else SpatialModulator(**spatial)
            self.semantic = None if semantic is None else SemanticModulator.of(weights, **semantic)
        except Exception as error:  # damaged archives raise many types
            line = (str(error).strip() or type(error).__name__).splitlines()[0][:150]
            raise CheckpointError(f"{folder / MODULATOR} does not hold the modulators of this model ({line}); export "
                                  "it anew") from error  # fmt: skip
        self.guidance = self._guidance(str(folder))

    def _guidance(self, where: str) -> float:
        try:
            guidance = as_guidance(self.facts.inference.get("guidance", 0.0))
        except ValueError as error:
            raise CheckpointError(f"{where}: {error}; export it anew") from None
        if guidance and not segments_alone(self):
            raise CheckpointError(f"{where}: guidance {guidance:g} needs a semantic modulator that is not centred; "
                                  "export it anew")  # fmt: skip
        return guidance

    def encode(self, images: np.ndarray) -> tuple[list[np.ndarray], np.ndarray | None]:
        """images (N, 3, H, W) float32 RGB in [0, 1] -> maps of each level, finest first, and phi (N, D, h, w) or None.

        Raises:
            DataError: sides that the model cannot take.
        """
        multiple = self.facts.size_multiple
        if any(side % multiple for side in images.shape[-2:]):
            raise DataError(f"this model takes images whose sides are multiples of {multiple}, got "
                            f"{'x'.join(map(str, images.shape[-2:]))}")  # fmt: skip
        *levels, last = outputs = self._encoder.run(None, {"images": images})
        fused = len(outputs) > self.facts.levels
        levels = levels if fused else outputs
        return levels, None if self.spatial is None else last

    def modulate(
        self, levels: Sequence[np.ndarray], phi: np.ndarray | None
    ) -> tuple[np.ndarray | None, np.ndarray | None, np.ndarray | None]:
        """One group's maps -> gamma (1, D), spatial masks (N, h, w), how far each image agrees with the others (N,);
        None for what the model has not. Images that agree less weigh less where it has a rule for `present`."""
        gamma = agreed = None
        if self.semantic is not None:
            indicators = self.semantic.indicators(levels[-1])
            if "present" in self.facts.inference:
                agreed = agreement_of_codes(self.semantic, indicators)
            gamma, _ = self.semantic(indicators[None], None if agreed is None else shares(agreed))
        return gamma, None if self.spatial is None else self.spatial(phi), agreed

    def head_inputs(
        self, levels: Sequence[np.ndarray], gamma: np.ndarray | None, mask: np.ndarray | None, size: tuple[int, int]
    ) -> dict[str, np.ndarray]:
        """What the head's graph takes, by name."""
        given = {f"level_{k}": level for k, level in enumerate(levels)} | {"size": np.array(size, dtype=np.int64)}
        told = {"gamma": gamma, "spatial_mask": None if mask is None else mask[None]}
        return given | {name: value for name, value in told.items() if value is not None}

    def segment(
        self, levels: Sequence[np.ndarray], gamma: np.ndarray | None, mask: np.ndarray | None, size: tuple[int, int]
    ) -> np.ndarray:
        """Maps of N images of one group, gamma (1, D), spatial masks (N, h, w) -> mask logits (N, *size)."""
        return self._head.run(None, self.head_inputs(levels, gamma, mask, size))[0]

    def __call__(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
        """One group, images (N, 3, H, W) float32 RGB in [0, 1] -> the probability that a pixel is of the shared object
        (N, H, W), and how far each image agrees with the others (N,), or None. All images are in memory at once;
        `ssnm.from_pretrained` takes any number."""
        levels, phi = self.encode(images)
        gamma, mask, agreed = self.modulate(levels, phi)
        size = images.shape[-2:]
        logits = self.segment(levels, gamma, mask, size)
        if self.guidance and len(images) > 1:
            alone = np.concatenate([self.segment(*one, size) for one in self.alone(levels, mask)])
            logits = guided(logits, alone, self.guidance)
        return sigmoid(logits), agreed

    def alone(
        self, levels: Sequence[np.ndarray], mask: np.ndarray | None
    ) -> Iterator[tuple[list[np.ndarray], np.ndarray, np.ndarray | None]]:
        """The maps, the gamma of a group of its own and the spatial mask of one image after the other."""
        gammas, _ = self.semantic(self.semantic.indicators(levels[-1])[:, None])
        for one in (slice(i, i + 1) for i in range(len(gammas))):
            yield [level[one] for level in levels], gammas[one], None if mask is None else mask[one]


def _session(path: Path, threads: int):
    ort = import_optional("onnxruntime")
    options = ort.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = threads, 3
    try:
        return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime raises types of its own
        line = (str(error).strip() or type(error).__name__).splitlines()[0][:150]
        raise CheckpointError(f"{path} cannot be read as an ONNX graph ({line}); export it anew") from error
