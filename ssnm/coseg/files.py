"""SSNM's model files: what is written into one, how the network comes out of one, how a run starts from one."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import nn

from ..config.loading import build_section, config_to_dict
from ..engine.checkpoint import ModelFile
from ..errors import CheckpointError, UserError
from ..naming import counted
from ..nn.weights import load_weights
from .build import build_model, mask_rule
from .config import AnyModelConfig, Config, config_from_dict
from .guidance import as_guidance
from .presence import PresenceRule
from .quality import QualityRule

if TYPE_CHECKING:
    from .model import SSNM
    from .release.model import SSNMRelease


@dataclass(frozen=True)
class Inference:
    """What prediction needs beside the network.

    labels: the co-categories it was trained on; size: side of the square images it is given; threshold: the rule that
    cuts its probabilities, a number or "mean+std"; present: the calibrated rule that says whether the shared object is
    in an image, or None; quality: the calibrated rule that says how good a mask is, or None; guidance: see
    :class:`ssnm.coseg.predict.Predictor`.
    """

    labels: tuple[str, ...]
    size: int
    threshold: float | str = 0.5
    present: PresenceRule | None = None
    quality: QualityRule | None = None
    guidance: float = 0.0

    def to_dict(self) -> dict[str, Any]:
        rules = {"present": self.present, "quality": self.quality}
        rules = {name: rule.to_dict() for name, rule in rules.items() if rule is not None}
        guided = {"guidance": self.guidance} if self.guidance else {}
        return {"labels": list(self.labels), "size": self.size, "threshold": self.threshold, **rules, **guided}


def inference_of(config: Config, labels: tuple[str, ...]) -> Inference:
    """What a run of `config` writes into its checkpoints."""
    return Inference(labels, getattr(config.model, "test_size", 0) or config.data.size, mask_rule(config))


def model_file(config: Config, labels: tuple[str, ...], weights: dict, card: dict | None = None) -> ModelFile:
    """A model file of a config's network."""
    return ModelFile("ssnm", config_to_dict(config), inference_of(config, labels).to_dict(), weights, card or {})


def read_inference(file: ModelFile, where: str) -> Inference:
    """Raises:
        CheckpointError: the file does not say what prediction needs, or says it in another form."""
    stored = dict(file.inference)
    try:
        if "size" not in stored:  # a file of version 0.1, which carries its whole config
            stored = inference_of(config_from_dict(file.config, where), tuple(stored["labels"])).to_dict()
        present = PresenceRule.from_dict(stored["present"]) if "present" in stored else None
        quality = QualityRule.from_dict(stored["quality"]) if "quality" in stored else None
        guidance = as_guidance(stored.get("guidance", 0.0))
        return Inference(tuple(stored["labels"]), int(stored["size"]), stored["threshold"], present, quality, guidance)
    except UserError:
        raise
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise CheckpointError(f"{where}: what inference needs is missing or damaged ({error!r})") from None


def model_from_file(file: ModelFile, where: str) -> "tuple[SSNM | SSNMRelease, Inference]":
    """Rebuild the network that a checkpoint or exported model describes, with its weights, in eval mode."""
    inference = read_inference(file, where)
    config = build_section(AnyModelConfig, file.config["model"], where, "model")
    model = build_model(config, len(inference.labels), weights="none")
    load_weights(model, file.weights, where)
    return model.eval(), inference


def for_export(file: ModelFile, where: str) -> ModelFile:
    """The file with everything that inference needs written out, whatever version it is of."""
    return replace(file, inference=read_inference(file, where).to_dict())


def init_from(model: nn.Module, source: ModelFile, labels: tuple[str, ...], where: str | Path) -> str:
    """Start `model` from another model, whose label list may differ. Returns one line that says what was reset.

    The classifier's rows are carried over by category name; rows of new categories keep their fresh values. The fusion
    of a source whose modulator clusters fused maps is left out where this one clusters others (`spatial.maps`).

    Raises:
        CheckpointError: anything but the classifier and such a fusion differs in name or shape.
    """
    own, theirs = model.state_dict(), read_inference(source, str(where)).labels
    fused = any(k.startswith("fusion.") for k in own)
    weights = {k: v for k, v in source.weights.items() if fused or not k.startswith("fusion.")}
    heads = [k for k in own if k.startswith("semantic.classifier.") and k in weights]
    common = [c for c in labels if c in theirs]
    for key in heads if labels != theirs else ():
        fresh = own[key].clone()
        for category in common:
            fresh[labels.index(category)] = weights[key][theirs.index(category)].to(fresh.dtype)
        weights[key] = fresh
    load_weights(model, weights, str(where))
    if labels == theirs or not heads:
        return f"started from {where}: all weights taken over"
    new = [c for c in labels if c not in theirs]
    return (
        f"started from {where}: label list differs; {counted(len(common), 'category', 'categories')} carried over, "
        f"{counted(len(new), 'row')} of the classifier reset ({', '.join(new[:8])}{', ...' if len(new) > 8 else ''})"
    )
