"""The one composition root of OSMN: config -> objects. Nothing below this layer ever sees a config."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn
from torch.utils.data import DataLoader

from ..config.loading import build_section, config_to_dict
from ..data.augment import Augmentation
from ..engine.checkpoint import ModelFile
from ..engine.distributed import Processes
from ..engine.runs import adam
from ..engine.runtime import CPU, step_loader
from ..files.places import find
from ..nn.backbones import Backbone, load_backbone_weights
from ..nn.pixels import PixelNormalisation
from ..nn.vgg import VGG
from ..nn.weights import load_weights
from .config import AnyModelConfig, Config, DataConfig, OSMNConfig, SmallConfig, SourceConfig, TrainConfig
from .data import GuideRules, Pool, SampleDataset, StepSampler, collate, pool_of, split
from .images import coco_tracks, processed_tracks, voc_tracks
from .losses import VideoCriterion
from .model import OSMN
from .procedural import procedural_tracks
from .settings import Settings
from .small import SmallOSMN
from .tracks import Track
from .videos import davis_tracks, only_where_seen, youtube_vos_tracks


def build_model(config: AnyModelConfig, weights: str | None = None) -> OSMN | SmallOSMN:
    """The network of a config. `weights` overrides its own ("none" where a checkpoint follows)."""
    if isinstance(config, SmallConfig):
        return _small(config, weights)
    source = config.weights if weights is None else weights
    trunk = VGG("vgg16", pretrained=source == "pretrained", ceil_mode=True, last_pool=False)
    visual = (
        VGG("vgg16", pretrained=source == "pretrained", ceil_mode=True, fc_layers=2, dropout=0.5)
        if config.visual else None
    )  # fmt: skip
    for vgg in (trunk, visual) if source not in ("pretrained", "none") else ():
        if vgg is not None:
            load_backbone_weights(vgg, source)
    p = config.pixels
    return OSMN(
        trunk,
        visual,
        PixelNormalisation(p.mean, p.std, p.scale, p.bgr),
        spatial=config.spatial,
        first_stage=1 if config.early else 3,
        fix_norm=config.fix_norm,
        fix_segmentation=config.fix_segmentation,
    )


def _small(config: SmallConfig, weights: str | None) -> SmallOSMN:
    b = config.backbone
    source = b.weights if weights is None else weights
    count = 1 if config.shared_backbone or not config.visual else 2
    backbones = [Backbone(b.name, source, b.strides, b.norm_eval, b.frozen_levels, b.allow_unused)
                 for _ in range(count)]  # fmt: skip
    return SmallOSMN(*backbones, dim=config.dim, hidden=config.hidden, visual=config.visual, spatial=config.spatial,
                     fix_norm=config.fix_norm)  # fmt: skip


def settings_of(config: Config) -> Settings:
    """What a run of `config` writes into its checkpoints for inference."""
    g, t = config.guides, config.test
    return Settings(
        size=t.size if all(t.size) else config.data.size,
        aspect=t.aspect,
        guide_side=g.side,
        pad_ratio=g.pad,
        guide_aspect="keep" if g.keep_aspect else "stretch",
        guide_background=g.background,
        guide=g.spatial,
        merge=t.merge,
        feedback=t.feedback,
    )


def model_file(config: Config, weights: dict, card: dict | None = None) -> ModelFile:
    """A model file of a config's network."""
    return ModelFile("osmn", config_to_dict(config), settings_of(config).to_dict(), weights, card or {})


def model_from_file(file: ModelFile, where: str) -> tuple[OSMN | SmallOSMN, Settings]:
    """Rebuild the network that a checkpoint or exported model describes, with its weights, in eval mode."""
    settings = Settings.from_dict(file.inference, where)
    model = build_model(build_section(AnyModelConfig, file.config["model"], where, "model"), weights="none")
    load_weights(model, file.weights, where)
    return model.eval(), settings


def weights_source(config: Config) -> str:
    """Where the initial weights come from, with a relative file resolved by the rule of data.root."""
    weights = config.model.weights if isinstance(config.model, OSMNConfig) else config.model.backbone.weights
    return weights if weights in ("pretrained", "none") else str(find(weights, config.data.root))


def build_tracks(config: SourceConfig, data: DataConfig) -> list[Track]:
    """The objects of one source."""

    def at(path: str) -> Path:
        return find(path, data.root)

    if config.type == "coco":
        return coco_tracks([at(path) for path in config.annotations], at(config.images), config.min_area)
    if config.type == "voc":
        return voc_tracks(at(config.root), config.list, config.min_area)
    if config.type == "processed":
        return processed_tracks(at(config.root), config.min_area)
    if config.type == "procedural":
        return procedural_tracks(config.num_videos, config.frames, config.side, config.kinds, config.seed)
    if config.type == "davis":
        tracks = davis_tracks(at(config.root), config.version, config.split, config.resolution)
        return only_where_seen(tracks) if data.randomize_guide else tracks
    return youtube_vos_tracks(at(config.root), config.split)


def build_pools(config: DataConfig) -> tuple[Pool, Pool]:
    """(objects to train on, held-out objects) of all sources."""
    pool = pool_of([(build_tracks(source, config), source.weight) for source in config.sources])
    return split(pool, config.holdout, config.holdout_share, config.holdout_seed)


def guide_rules(config: Config) -> GuideRules:
    g, data = config.guides, config.data
    return GuideRules(
        side=g.side, spatial=g.spatial, keep_aspect=g.keep_aspect, background=g.background, crop=g.crop, angle=g.angle,
        flip=g.flip, colour=g.colour, centre=g.centre, spread=g.spread, lost=g.lost, astray=g.astray,
        random_frame=data.randomize_guide, min_area=data.min_guide_area, min_box_share=data.min_guide_box_share,
    )  # fmt: skip


def build_loader(
    config: Config, pool: Pool, start: int, rank: int = 0, world: int = 1, device: torch.device = CPU
) -> DataLoader:
    """Micro-batches of the training samples, `train.accumulate` per step, from step `start` on, on their way to
    `device`."""
    data, train, a = config.data, config.train, config.data.augmentation
    sampler = StepSampler(pool, train.batch, data.sizes, train.seed, start, train.steps, rank, world, train.accumulate)
    dataset = SampleDataset(pool, guide_rules(config), Augmentation(a.flip, a.crop, a.keep, a.colour, a.grey))
    return step_loader(dataset, sampler, collate, data.workers, train.seed, device)


def build_criterion(config: Config, processes: Processes = Processes()) -> VideoCriterion:
    """The losses of a config; balancing covers the share of every process."""
    weights = config.loss
    return VideoCriterion(weights.balanced, weights.cross_entropy, weights.dice, processes.mean, processes.world)


def build_optimizer(model: nn.Module, config: TrainConfig) -> torch.optim.Optimizer:
    """Adam; frozen parameters are left out.

    Coupled weight decay of d is the gradient of d / 2 * |w|^2, which the original adds to its loss. The backbone's rate
    is scaled by backbone_lr_scale; of osvos that is the two VGG16 up to conv5_3, fc6 and fc7.
    """
    convolutions = {id(m.weight) for m in model.modules() if isinstance(m, nn.Conv2d)}
    groups: dict[tuple[bool, bool], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            pretrained = name.startswith(("trunk.", "visual.vgg.", "backbone.", "visual_backbone."))
            decays = not config.decay_convolutions_only or id(parameter) in convolutions
            groups.setdefault((pretrained, decays), []).append(parameter)
    options = [
        {"params": parameters, "lr": config.lr * (config.backbone_lr_scale if pretrained else 1.0),
         "weight_decay": config.weight_decay if decays else 0.0}
        for (pretrained, decays), parameters in groups.items()
    ]  # fmt: skip
    return adam(options, config, model)
