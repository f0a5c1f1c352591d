"""A loaded video model for people: frames and a mask in, the mask of every frame out."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import nn

from ..engine.checkpoint import ModelFile
from ..errors import ConfigError, DataError
from ..naming import counted
from .frames import Frames, read_frames
from .prompts import MaskLike, Prompts, prompts_from
from .propagate import FrameResult, Propagation
from .settings import Settings, check_size


class VideoSegmenter:
    """A loaded model for people: `propagate` follows objects through a video.

    settings: what the model file says about sizes, guides and merging; card: about data, steps and limits.
    """

    def __init__(
        self, network: nn.Module, settings: Settings, card: dict | None = None, path: Path | None = None,
        device: torch.device | str = "cpu",
    ) -> None:  # fmt: skip
        self.network = network.to(device).eval()
        self.settings, self.card, self.path, self.device = settings, card or {}, path, torch.device(device)

    def propagate(
        self, frames: Frames, mask: MaskLike, size: tuple[int, int] | None = None, finetune: int = 0
    ) -> Iterator[FrameResult]:
        """Follow the objects of `mask` through a video, one frame at a time; nothing but the last masks is kept.

        Args:
            frames: a folder of images, a video file, or an iterable, also a generator, of image files, Pillow images
                or arrays ((H, W), (H, W, 3) or (H, W, 4); uint8, uint16, bool or float in [0, 1]); sizes may differ.
            mask: ids (H, W) of the first frame, bool or whole numbers, 0 background; only 0 and 255 is one object,
                id 1; beside other ids 255 is void; or a mask file. {frame number: ids (H, W)} for objects that start
                later; masks of an object that is already followed are passed over.
            size: (width, height) of the network's input; None: the model file's.
            finetune: steps of online fine-tuning on the frame where an object starts, with a copy of the network per
                object; 0: none.

        Yields:
            Per frame, the first included: ids (H, W) at the frame's own size, probabilities (objects, h, w) float32 at
            network size in the order of object_ids (ascending), overlay(). The frame where an object starts holds its
            given mask.

        Raises:
            DataError, MissingFileError: a mask or frame that cannot be used; the message names it.
            ConfigError: a size or number of steps that cannot be.
        """
        propagation = self.start(prompts_from(mask), size, finetune)
        return self._run(propagation, frames)

    def start(self, prompts: Prompts, size: tuple[int, int] | None = None, finetune: int = 0) -> Propagation:
        """The same, to be fed frame by frame; see :meth:`propagate`."""
        if isinstance(finetune, bool) or not isinstance(finetune, int) or finetune < 0:
            raise ConfigError(f"finetune: a number of steps, 0 or more, is needed, got {finetune!r}")
        size = None if size is None else check_size(size)
        return Propagation(self.network, self.settings, prompts, size, self.device, self._finetuner(finetune, size))

    def segment(self, *args, **kwargs):
        """Not of this model.

        Raises:
            ConfigError: always; the message says what to call.
        """
        raise ConfigError("segment is of co-segmentation models; this one follows objects through a video: "
                          "propagate(frames, mask)")  # fmt: skip

    def _run(self, propagation: Propagation, frames: Frames) -> Iterator[FrameResult]:
        count = 0
        for count, frame in enumerate(read_frames(frames), start=1):
            result = propagation.step(frame)
            for note in result.notes:
                warnings.warn(note, stacklevel=2)
            yield result
        check_all_started(propagation.prompts, count)

    def _finetuner(self, steps: int, size: tuple[int, int] | None):
        """What makes a network of an object's own; None without steps."""
        if steps == 0:
            return None
        from .online import finetune

        return lambda image, mask: finetune(self.network, image, mask, steps, self.settings, size)


def check_all_started(prompts: Prompts, frames: int) -> None:
    """Raises:
        DataError: a mask was given for a frame that the video does not have."""
    late = [index for index in prompts.masks if index >= frames]
    if late:
        raise DataError(f"a mask was given for frame {late[0]}, but the video has {counted(frames, 'frame')}, "
                        "numbered from 0")


def load(file: ModelFile, path: Path, device: torch.device) -> VideoSegmenter:
    """What `ssnm.from_pretrained` gives for a file of this method."""
    from .build import model_from_file

    network, settings = model_from_file(file, str(path))
    return VideoSegmenter(network, settings, file.card, path, device)
