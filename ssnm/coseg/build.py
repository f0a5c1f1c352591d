"""The composition root of SSNM: config -> objects. No part of the method below this file ever sees a config."""

from __future__ import annotations

import copy
from dataclasses import replace
from functools import partial
from typing import Any, Callable, Iterable

import torch
from torch import nn
from torch.utils.data import DataLoader

from ..config.sources import SourceConfig
from ..data.augment import Augmentation
from ..data.coco import CocoSegSource
from ..data.folders import ProcessedSource, VocSource
from ..data.partial import PartiallyAnnotated
from ..data.procedural import ProceduralSource
from ..data.procedural_kinds import KINDS, SEEN_KINDS, UNSEEN_KINDS
from ..data.records import BadImage, Source
from ..data.store import StoreSource
from ..data.teacher import Taught, TeacherMaps
from ..data.voc import VOC_CLASSES
from ..engine.distributed import Processes
from ..engine.runs import adam
from ..engine.runtime import CPU, step_loader
from ..errors import ConfigError
from ..files.places import find
from ..naming import canonical_category
from ..nn.backbones import Backbone
from .config import (
    AnyLossConfig,
    AnyModelConfig,
    Config,
    DataConfig,
    ReleaseLossConfig,
    ReleaseModelConfig,
    TrainConfig,
)
from .groups import GroupDataset, collate_groups
from .losses import CosegCriterion
from .model import SSNM, SpatialModulator
from .pool import ImagePool, MemoryCache
from .records import GroupBatch
from .release.losses import ReleaseCriterion
from .release.model import ReleaseBackbone, SSNMRelease
from .release.union_first import UnionFirstDataset
from .sampler import GroupDrawer, StepSampler
from .validation import Validator

PROCEDURAL_KINDS = {"seen": SEEN_KINDS, "unseen": UNSEEN_KINDS, "all": tuple(KINDS)}


def build_model(config: AnyModelConfig, num_categories: int, weights: str | None = None) -> SSNM | SSNMRelease:
    """The network of a config. `weights` overrides the backbone's ("none" where a checkpoint follows)."""
    b = config.backbone
    if isinstance(config, ReleaseModelConfig):
        return SSNMRelease(ReleaseBackbone(b.weights if weights is None else weights), num_categories, config.solver)
    backbone = Backbone(
        b.name, b.weights if weights is None else weights, b.strides, b.norm_eval, b.frozen_levels, b.allow_unused
    )
    spatial, semantic = config.spatial, config.semantic
    return SSNM(
        backbone,
        num_categories,
        dim=config.dim,
        spatial=SpatialModulator(spatial.orientation, spatial.scale, spatial.maps, spatial.trains_maps)
        if spatial.enabled
        else None,
        semantic=dict(
            image_dim=semantic.image_dim,
            group_dim=semantic.group_dim,
            activation=semantic.activation,
            gamma_activation=semantic.gamma_activation,
            centred=semantic.centred,
            normalisation=semantic.normalisation,
        )
        if semantic.enabled
        else None,
        fusion_activation=config.fusion_activation,
        level_activation=config.level_activation,
        head_activation=config.head_activation,
        level_norm=config.level_norm,
        head_extra_convolution=config.head_extra_convolution,
    )


def build_criterion(
    config: AnyLossConfig, processes: Processes = Processes()
) -> CosegCriterion | ReleaseCriterion:
    """The losses of a config; batch-wide terms cover the share of every process."""
    if isinstance(config, ReleaseLossConfig):
        return ReleaseCriterion(processes.mean)
    return CosegCriterion(
        config.spa, config.sem, config.seg, config.dice, config.weighting, config.spa_reduction, config.teacher,
        config.teacher_on, config.exchange, config.sem_image,
    )


def mask_rule(config: Config) -> float | str:
    """What cuts the probabilities of a model trained by `config`: a number, or "mean+std".

    It follows the loss. Eq. 13 as printed, and the release, weight positive pixels by their own share, so that the
    probabilities lie far below one half on small objects and one half does not fit them.
    """
    return "mean+std" if getattr(config.loss, "weighting", "paper") == "paper" else 0.5


def backbone_weights(config: Config) -> str:
    """The backbone's weights argument with a relative file resolved by the rule of data.root."""
    weights = config.model.backbone.weights
    return weights if weights in ("pretrained", "none") else str(find(weights, config.data.root))


def build_source(config: SourceConfig, data: DataConfig) -> Source:
    """One source of training images, read from its store where the config names one."""
    if config.type == "store":
        return StoreSource(find(config.root, data.root), (data.size, data.size))
    source = build_file_source(config, data)
    if config.store:
        source = StoreSource(find(config.store, data.root), (data.size, data.size), source)
    if getattr(config, "partial", False):
        source = PartiallyAnnotated(source, every_image=config.type == "coco_seg")
    return source


def build_file_source(config: SourceConfig, data: DataConfig) -> Source:
    """One source read from its own files, whatever store its config names; what a store is made of."""
    if config.type == "voc":
        names = config.class_names or VOC_CLASSES
        return VocSource(find(config.root, data.root), config.list, name=config.name, class_names=names)
    if config.type == "processed":
        return ProcessedSource(find(config.root, data.root), name=config.name, classes=config.classes)
    if config.type == "coco_seg":
        return CocoSegSource(find(config.index, data.root), find(config.images, data.root), name=config.name)
    if config.type == "procedural":
        return ProceduralSource(PROCEDURAL_KINDS[config.kinds], config.num_images, seed=config.seed, name=config.name)
    raise ConfigError(f"a source of type {config.type} has no files of its own; voc, processed, coco_seg or procedural "
                      "was expected")  # fmt: skip


def build_pools(config: DataConfig) -> tuple[ImagePool, ImagePool]:
    """(training images, held-out images) of all sources under one label list."""
    sources = [build_source(s, config) for s in config.sources]
    if config.teacher:
        maps = TeacherMaps(find(config.teacher, config.root))
        sources = [Taught(s, maps) for s in sources]
    if config.cache == "memory":
        sources = [MemoryCache(s) for s in sources]
    labels = tuple(canonical_category(name) for name in config.labels) or None
    return ImagePool(sources, labels).split(config.holdout, config.holdout_seed)


def build_loader(
    config: Config, pool: ImagePool, start: int, rank: int = 0, world: int = 1, device: torch.device = CPU
) -> DataLoader:
    """Micro-batches of the training groups, `train.accumulate` per step, from step `start` on, on their way to
    `device`. With 4 workers those under way take 40 MB of shared memory (4 x 5 images of 224x224)."""
    data, train = config.data, config.train
    drawer = GroupDrawer(pool, data.group_size, data.balance, data.mix, data.favoured, data.favour)
    sampler = StepSampler(drawer, train.batch_groups, train.seed, start, train.steps, rank, world, train.accumulate)
    a = data.augmentation
    dataset_type = UnionFirstDataset if data.union_at_full_size else GroupDataset
    dataset = dataset_type(pool, (data.size, data.size), Augmentation(a.flip, a.crop, a.keep, a.colour, a.grey))
    collate = partial(
        collate_groups, exchange=getattr(config.loss, "exchange", 0) > 0, references=data.mix.reference > 0
    )
    return step_loader(dataset, sampler, collate, data.workers, train.seed, device)


def build_validator(
    config: Config,
    pool: ImagePool,
    device: torch.device,
    on_bad: Callable[[Iterable[BadImage]], None] = lambda found: None,
) -> Validator:
    """Validation on held-out images; the groups depend on validation.seed alone. on_bad: told of unusable images."""
    v = config.validation
    size, group_size = config.data.size, config.data.group_size
    validator = Validator.make(
        pool, size, group_size, v.groups, v.two_category_images, v.seed, device, v.pictures, on_bad, v.balance,
        v.foreign_groups,
    )
    return replace(validator, rule=mask_rule(config))


def build_further(config: Config, validator: Validator) -> Validator:
    """`validator` with one more for each of validation.sources: whole sets, every class as often as any other."""
    v, further = config.validation, []
    for source in v.sources:
        pool = ImagePool([build_source(source, config.data)])
        groups = 2 * len(pool.members)
        other = Validator.make(pool, config.data.size, config.data.group_size, groups, 0, v.seed, validator.device, 0,
                               validator.on_bad, "uniform")  # fmt: skip
        further.append((source.name, other))
    return replace(validator, further=further)


def build_optimizer(model: SSNM | SSNMRelease, config: TrainConfig) -> torch.optim.Optimizer:
    """Adam with the backbone's rate scaled; without frozen parameters."""
    groups = []
    for name, parameters, scale in (
        ("backbone", model.backbone.parameters(), config.backbone_lr_scale),
        ("modules", (p for n, p in model.named_parameters() if not n.startswith("backbone.")), 1.0),
    ):
        trained = [p for p in parameters if p.requires_grad]
        if trained:
            groups.append({"params": trained, "name": name, "lr": config.lr * scale})
    return adam(groups, config, model)


def untrained_parameters(model: nn.Module, config: Config, num_categories: int) -> list[str]:
    """Names of the trainable parameters that the losses of `config` give no gradient, found by trying a copy."""
    probe = copy.deepcopy(model)
    device, size, group = next(probe.parameters()).device, config.data.size, config.data.group_size
    shape = (1, group, size, size)
    batch = GroupBatch(
        images=torch.linspace(0, 1, group * 3 * size * size, device=device).view(1, group, 3, size, size),
        masks=torch.ones(shape, device=device),
        labels=torch.zeros(1, num_categories, device=device),
        valid=torch.ones(shape, dtype=torch.bool, device=device),
        grey=torch.zeros(1, group, dtype=torch.bool, device=device),
        image_labels=torch.zeros(1, group, num_categories, device=device),
        image_known=torch.ones(1, group, num_categories, dtype=torch.bool, device=device),
        teacher=torch.ones(shape, device=device),
        taught=torch.ones(1, group, dtype=torch.bool, device=device),
    )
    probe.eval()  # batch norm of one group may have a single value per channel
    build_criterion(config.loss)(group_forward(probe)(batch), batch)["total"].backward()
    return [name for name, p in probe.named_parameters() if p.requires_grad and p.grad is None]


def synchronise_batch_norm(model: nn.Module) -> nn.Module:
    """Batch norm whose statistics cover the batches of all processes; the keys of the weights stay as they are."""
    from timm.layers import convert_sync_batchnorm

    return convert_sync_batchnorm(model)


def group_forward(model: nn.Module, exchange: int = 0) -> Callable[[GroupBatch], Any]:
    """What the loop calls: the model on a batch's images, and on which of them are grey where it asks for that;
    exchange: images of each group that are also segmented with another group's gamma."""
    inner = getattr(model, "_orig_mod", model)  # inside torch.compile
    inner = getattr(inner, "module", inner)  # inside DistributedDataParallel
    if isinstance(inner, SSNM):
        return lambda batch: model(batch.images, exchange, _steering(batch))
    if getattr(inner, "takes_grey", False):
        return lambda batch: model(batch.images, batch.grey)
    return lambda batch: model(batch.images)


def _steering(batch: GroupBatch) -> tuple[torch.Tensor, torch.Tensor] | None:
    """What the model takes of a batch's references, see :meth:`ssnm.coseg.model.SSNM.forward`."""
    return None if batch.references is None else (batch.references, batch.masks)
