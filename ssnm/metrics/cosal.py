"""The co-saliency measures S, E, F and MAE through the package pysodmetrics (optional), on the same folders."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import MissingPackageError
from ..files.masks import read_binary
from ..naming import counted
from .maps import read_map, resize_map
from .pairing import find_pairs

NAMES = {
    "S": "S-measure",
    "max_E": "E-measure, max",
    "mean_E": "E-measure, mean",
    "adaptive_E": "E-measure, adaptive",
    "max_F": "F-measure, max",
    "mean_F": "F-measure, mean",
    "adaptive_F": "F-measure, adaptive",
    "MAE": "MAE",
}


@dataclass(frozen=True)
class CosalScores:
    """Means over ``count`` images, in [0, 1]; for MAE smaller is better.

    S (Fan 2017, alpha 0.5), E (Fan 2018), F (beta^2 0.3); ``max`` and ``mean`` are of the curve over the 256
    thresholds averaged over images, ``adaptive`` cuts at twice the map's mean. pysodmetrics stretches each map to
    0..1 first, as this field's MATLAB code does.
    """

    S: float
    max_E: float
    mean_E: float
    adaptive_E: float
    max_F: float
    mean_F: float
    adaptive_F: float
    MAE: float
    count: int

    def table(self) -> str:
        """One measure per line, in [0, 1]."""
        width = max(map(len, NAMES.values()))
        lines = [f"{text.ljust(width)}  {getattr(self, name):.4f}" for name, text in NAMES.items()]
        images = counted(self.count, "image")
        return "\n".join([f"co-saliency measures over {images} (pysodmetrics), at the truth's size", *lines])

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def cosal_folder(
    pred_dir: str | Path,
    truth_dir: str | Path,
    classes: Sequence[str] | None = None,
    allow_extra: bool = False,
) -> CosalScores:
    """Score a folder of maps by the co-saliency measures, every map at the size of its ground truth.

    Raises:
        MissingPackageError: pysodmetrics is not installed, or too old.
        MissingFileError, DataError, ConfigError: as :func:`ssnm.metrics.score_folder`.
    """
    sod = _import_pysodmetrics()
    structure, alignment, error = sod.Smeasure(), sod.Emeasure(), sod.MAE()
    overlap = sod.FmeasureV2({"fm": sod.FmeasureHandler(with_dynamic=True, with_adaptive=True, beta=0.3)})
    pairs = find_pairs(pred_dir, truth_dir, classes, allow_extra).pairs
    for pair in pairs:
        truth = read_binary(pair.truth).object
        map_ = resize_map(read_map(pair.map), truth.shape)
        if map_.dtype != np.uint8:
            map_ = (map_ * 255).round().astype(np.uint8)
        for measure in (structure, alignment, error, overlap):
            measure.step(map_, truth.astype(np.uint8) * 255)
    e, f = alignment.get_results()["em"], overlap.get_results()["fm"]
    return CosalScores(
        S=float(structure.get_results()["sm"]),
        max_E=float(e["curve"].max()),
        mean_E=float(e["curve"].mean()),
        adaptive_E=float(e["adp"]),
        max_F=float(f["dynamic"].max()),
        mean_F=float(f["dynamic"].mean()),
        adaptive_F=float(f["adaptive"]),
        MAE=float(error.get_results()["mae"]),
        count=len(pairs),
    )


def _import_pysodmetrics() -> Any:
    try:
        import py_sod_metrics
    except ImportError:
        raise MissingPackageError(
            'the co-saliency measures need the package pysodmetrics: pip install -e ".[cosal]"'
        ) from None
    if not hasattr(py_sod_metrics, "FmeasureHandler"):
        raise MissingPackageError('pysodmetrics is too old (1.4.2 or newer is needed): pip install -U -e ".[cosal]"')
    return py_sod_metrics
