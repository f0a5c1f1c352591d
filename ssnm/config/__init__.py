"""Configuration: YAML -> frozen dataclasses, checked on load. Imports no torch; only the factory reads these.

A YAML file states what differs from the defaults of `schema.py`. `--set key.sub=value` overrides one value; values
are read as YAML and converted by the declared type (so `1e-4` is a float). Unknown keys, wrong types and values out
of range are a ConfigError that names the key.
"""

from ..coseg.config import (
    LOSS_TYPES,
    MODEL_TYPES,
    AnyLossConfig,
    AnyModelConfig,
    AugmentationConfig,
    BackboneConfig,
    Config,
    DataConfig,
    EvaluateConfig,
    LossConfig,
    MixConfig,
    ModelConfig,
    ReleaseBackboneConfig,
    ReleaseLossConfig,
    ReleaseModelConfig,
    ScheduleConfig,
    SemanticConfig,
    SpatialConfig,
    TrainConfig,
    ValidationConfig,
)
from .loading import (
    apply_overrides,
    config_from_dict,
    config_to_dict,
    config_to_yaml,
    data_root,
    load_config,
    resolve,
)
from .sources import (
    SOURCE_TYPES,
    CocoSegSourceConfig,
    ProceduralSourceConfig,
    ProcessedSourceConfig,
    SourceConfig,
    StoreSourceConfig,
    VocSourceConfig,
)

__all__ = [
    "AnyLossConfig",
    "AnyModelConfig",
    "AugmentationConfig",
    "BackboneConfig",
    "CocoSegSourceConfig",
    "Config",
    "DataConfig",
    "EvaluateConfig",
    "LOSS_TYPES",
    "LossConfig",
    "MODEL_TYPES",
    "MixConfig",
    "ModelConfig",
    "ProceduralSourceConfig",
    "ProcessedSourceConfig",
    "ReleaseBackboneConfig",
    "ReleaseLossConfig",
    "ReleaseModelConfig",
    "SOURCE_TYPES",
    "ScheduleConfig",
    "SemanticConfig",
    "SourceConfig",
    "SpatialConfig",
    "StoreSourceConfig",
    "TrainConfig",
    "ValidationConfig",
    "VocSourceConfig",
    "apply_overrides",
    "config_from_dict",
    "config_to_dict",
    "config_to_yaml",
    "data_root",
    "load_config",
    "resolve",
]
