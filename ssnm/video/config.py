"""The config of OSMN as frozen dataclasses: every key, its type, its default, and the rules that a type cannot say."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from ..config.loading import build_section
from ..config.sections import AugmentationConfig, BackboneConfig, RunConfig
from ..errors import ConfigError
from ..ranges import BELOW_ONE, NOT_NEGATIVE, POSITIVE, SHARE, require, values

SMALLEST_SIDE = 16


@dataclass(frozen=True, kw_only=True)
class PixelsConfig:
    """What the weights want of their input: (x * scale - mean) / std of RGB, or BGR, in [0, 1]. The default is
    torchvision's and timm's; the authors' weights want BGR, scale 255, mean (104, 117, 123), std 1."""

    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)
    scale: float = 1.0
    bgr: bool = False

    def __post_init__(self) -> None:
        require({f"model.pixels.std.{i}": value for i, value in enumerate(self.std)}, *POSITIVE)
        require(values("model.pixels", self, "scale"), *POSITIVE)


@dataclass(frozen=True, kw_only=True)
class OSMNConfig:
    """The paper's network. weights: of VGG16, for both trunks: "pretrained" (timm downloads), "none" or a file with
    timm's keys. visual, spatial: false is no_visual_modulator, no_spatial_modulator; early: mod_early_conv; fix_norm:
    fix_bn; fix_segmentation: fix_seg."""

    name: Literal["osvos"] = "osvos"
    weights: str = "pretrained"
    visual: bool = True
    spatial: bool = True
    early: bool = False
    fix_norm: bool = False
    fix_segmentation: bool = False
    pixels: PixelsConfig = field(default_factory=PixelsConfig)


@dataclass(frozen=True, kw_only=True)
class SmallConfig:
    """The small network, see ssnm.video.small. dim: D; hidden: width of the visual modulator; shared_backbone: frames
    and visual guides have one."""

    name: Literal["small"] = "small"
    backbone: BackboneConfig = field(default_factory=lambda: BackboneConfig(name="mobilenetv2_100"))
    shared_backbone: bool = True
    dim: int = 96
    hidden: int = 256
    visual: bool = True
    spatial: bool = True
    fix_norm: bool = False

    def __post_init__(self) -> None:
        require(values("model", self, "dim", "hidden"), *POSITIVE)


AnyModelConfig = OSMNConfig | SmallConfig


@dataclass(frozen=True, kw_only=True)
class CocoSourceConfig:
    """COCO's instance annotations and the folder of their images. min_area: share of the image that an object has to
    exceed. weight: how often a source's samples come in an epoch (0.5: half of them in each)."""

    type: Literal["coco"] = "coco"
    annotations: tuple[str, ...]
    images: str
    min_area: float = 0.03
    weight: float = 1.0


@dataclass(frozen=True, kw_only=True)
class VocSourceConfig:
    """PASCAL VOC's layout: JPEGImages and SegmentationObject, or the connected pieces of SegmentationClass; list: of
    ImageSets/Segmentation, none: every mask."""

    type: Literal["voc"] = "voc"
    root: str
    list: str | None = None
    min_area: float = 0.03
    weight: float = 1.0


@dataclass(frozen=True, kw_only=True)
class ProcessedSourceConfig:
    """image/<class>/* with instances/<class>/* (k: instance k), or the connected pieces of groundtruth/<class>/*."""

    type: Literal["processed"] = "processed"
    root: str
    min_area: float = 0.03
    weight: float = 1.0


@dataclass(frozen=True, kw_only=True)
class DavisSourceConfig:
    """DAVIS's layout. version 2016: one object per sequence; 2017: one per id of the first frame."""

    type: Literal["davis"] = "davis"
    root: str
    version: Literal["2016", "2017"] = "2017"
    split: str = "train"
    resolution: str = "480p"
    weight: float = 1.0


@dataclass(frozen=True, kw_only=True)
class YouTubeVosSourceConfig:
    """YouTube-VOS's layout: SPLIT/meta.json, SPLIT/JPEGImages, SPLIT/Annotations."""

    type: Literal["youtube_vos"] = "youtube_vos"
    root: str
    split: str = "train"
    weight: float = 1.0


@dataclass(frozen=True, kw_only=True)
class ProceduralVideosConfig:
    """Videos drawn on the fly, see ssnm.video.procedural. side: of the square frames."""

    type: Literal["procedural"] = "procedural"
    num_videos: int = 400
    frames: int = 8
    side: int = 96
    kinds: Literal["seen", "unseen"] = "seen"
    seed: int = 0
    weight: float = 1.0

    def __post_init__(self) -> None:
        require(values("data.sources", self, "num_videos", "frames", "side"), *POSITIVE)


SourceConfig = (
    CocoSourceConfig | VocSourceConfig | ProcessedSourceConfig | DavisSourceConfig | YouTubeVosSourceConfig
    | ProceduralVideosConfig
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """Training data of one stage. Relative paths are looked up under `root`; empty: the environment variable SSNM_DATA,
    and the folder `data` where that is not set.

    size: (width, height) of the network's input; scales: of it, one is drawn for each step; sizes are cut to whole
    pixels. holdout: names of videos or images that are kept for validation; holdout_share: of the others, drawn by
    holdout_seed. randomize_guide: visual guides from a random good frame (covering more than min_guide_area of the
    image and min_guide_box_share of its box), targets only where the object is to be seen.
    """

    root: str = ""
    sources: tuple[SourceConfig, ...] = ()
    size: tuple[int, int] = (854, 480)
    scales: tuple[float, ...] = (1.0,)
    randomize_guide: bool = False
    min_guide_area: float = 0.003
    min_guide_box_share: float = 0.2
    augmentation: AugmentationConfig = field(default_factory=lambda: AugmentationConfig(flip=0.0))
    holdout: tuple[str, ...] = ()
    holdout_share: float = 0.0
    holdout_seed: int = 0
    max_bad_images: int = 100
    workers: int = 4

    def __post_init__(self) -> None:
        require(values("data", self, "holdout_share"), *BELOW_ONE)
        require(values("data", self, "min_guide_area", "min_guide_box_share"), *SHARE)
        require(values("data", self, "workers", "max_bad_images"), *NOT_NEGATIVE)
        require({f"data.scales.{i}": scale for i, scale in enumerate(self.scales)}, *POSITIVE)
        if not self.scales or min(min(size) for size in self.sizes) < SMALLEST_SIDE:
            raise ConfigError(f"data.size and data.scales must give sides of at least {SMALLEST_SIDE} pixels, got "
                              f"{self.size} and {self.scales}")  # fmt: skip

    @property
    def sizes(self) -> tuple[tuple[int, int], ...]:
        """(width, height) at each scale, cut to whole pixels."""
        return tuple((int(self.size[0] * s), int(self.size[1] * s)) for s in self.scales)


@dataclass(frozen=True, kw_only=True)
class GuidesConfig:
    """The guides. side: of the visual guide (224 for osvos); keep_aspect; background: show what surrounds the object
    (bbox_sup). pad: how much the box grows at test time. In training: crop, angle (degrees), flip, colour of the visual
    guide; spatial: "gaussian", moved by up to `centre` spreads and scaled by up to 1 + `spread`, or "dilated"; lost,
    astray: probabilities that the spatial guide is blank, or a random box's, as after a mask that went wrong."""

    side: int = 224
    keep_aspect: bool = False
    background: bool = False
    pad: float = 0.03
    crop: float = 0.1
    angle: float = 10.0
    flip: float = 0.5
    colour: bool = False
    spatial: Literal["gaussian", "dilated"] = "gaussian"
    centre: float = 0.2
    spread: float = 0.4
    lost: float = 0.0
    astray: float = 0.0

    def __post_init__(self) -> None:
        require(values("guides", self, "side"), *POSITIVE)
        require(values("guides", self, "flip", "lost", "astray"), *SHARE)
        require(values("guides", self, "pad", "crop", "angle", "centre", "spread"), *NOT_NEGATIVE)
        if self.lost + self.astray > 1:
            raise ConfigError(f"guides.lost + guides.astray must not exceed 1, got {self.lost + self.astray:g}")


@dataclass(frozen=True, kw_only=True)
class LossConfig:
    """Weights of the terms: the class-balanced sum of the original, a plain mean cross-entropy, Dice; 0: left out."""

    balanced: float = 1.0
    cross_entropy: float = 0.0
    dice: float = 0.0

    def __post_init__(self) -> None:
        require(values("loss", self, "balanced", "cross_entropy", "dice"), *NOT_NEGATIVE)
        if not (self.balanced or self.cross_entropy or self.dice):
            raise ConfigError("loss: balanced, cross_entropy and dice are all 0: nothing would be trained; give one a "
                              "weight")  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class TrainConfig(RunConfig):
    """batch is the global one, shared by all processes. decay_convolutions_only: weight decay on the weights of
    convolutions alone, as the original has it."""

    batch: int = 8
    decay_convolutions_only: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        require(values("train", self, "batch"), *POSITIVE)
        if self.batch % self.accumulate:
            raise ConfigError(f"train.accumulate={self.accumulate} must divide train.batch={self.batch}")


@dataclass(frozen=True, kw_only=True)
class TestConfig:
    """How the trained model is used; written into its file. size: (width, height) of the network's input, (0, 0):
    data.size. aspect: "keep" takes the area of it alone, with the shape of the video. merge, feedback: see
    ssnm.video.settings."""

    __test__ = False  # the name looks like a test to pytest

    size: tuple[int, int] = (0, 0)
    aspect: Literal["stretch", "keep"] = "stretch"
    merge: Literal["labels", "probabilities"] = "labels"
    feedback: Literal["own", "merged"] = "own"


@dataclass(frozen=True, kw_only=True)
class ValidationConfig:
    """Held-out objects, every `every` steps and at the end: roll-outs of up to `videos` videos over their first
    `frames` frames, played `passes` times (forth, back, forth again: what is lost late is seen in short videos), and up
    to `images` single images."""

    every: int = 2_000
    videos: int = 10
    frames: int = 25
    passes: int = 1
    images: int = 100

    def __post_init__(self) -> None:
        require(values("validation", self, "every", "frames", "passes"), *POSITIVE)
        require(values("validation", self, "videos", "images"), *NOT_NEGATIVE)


@dataclass(frozen=True, kw_only=True)
class Config:
    """One run: what to build, from what data, how to train it."""

    method: Literal["osmn"]
    model: AnyModelConfig = field(default_factory=OSMNConfig)
    data: DataConfig = field(default_factory=DataConfig)
    guides: GuidesConfig = field(default_factory=GuidesConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    test: TestConfig = field(default_factory=TestConfig)
    validation: ValidationConfig = field(default_factory=ValidationConfig)

    def __post_init__(self) -> None:
        if isinstance(self.model, OSMNConfig) and self.guides.side != 224:
            raise ConfigError(f"guides.side must be 224 with model.name=osvos, whose fc6 covers 7x7 cells; got "
                              f"{self.guides.side}")  # fmt: skip


def config_from_dict(mapping: dict, where: str = "config") -> Config:
    """A nested mapping (YAML or checkpoint) -> Config; `where` begins the error messages."""
    return build_section(Config, mapping, where)
