"""From the mask of the first frame to the masks of all: the roll-out of OSMN.

Per object, once: the visual guide, cut out of the frame where the object starts, becomes scales. Per frame: the
previous mask becomes the spatial guide; frame, scales and guide become a probability map, whose pixels above one half
guide the next frame. Objects run beside each other in one batch; layers before the first modulated one see the frame
once. Only the last masks are kept: memory does not grow with the video.

n objects, h w network size, H W size of a frame.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from ..errors import DataError
from ..files.ids import ids_in
from ..visualize.overlays import objects_overlay
from .frames import Frame
from .guides import VisualDraw, dilated_guide, gaussian_guide, visual_guide
from .merge import merge_objects, resize_ids, resize_probabilities
from .prompts import Prompts
from .settings import Settings

OBJECTS_AT_ONCE = 16  # in one batch; bounds the memory of a frame with very many objects


class FrameResult:
    """One frame, segmented.

    Attributes:
        index, name, image: of the frame: its number, its name without suffix, (H, W, 3) uint8 RGB.
        object_ids: ids of the objects seen so far, ascending.
        probabilities: (n, h, w) float32 at network size, in that order; of an object that starts here its given mask.
        seconds: time of the network, guides included, without reading and merging.
        notes: what went less well than it might seem, one line each.
    """

    def __init__(
        self, frame: Frame, object_ids: tuple[int, ...], probabilities: np.ndarray, given: np.ndarray | None,
        merge: str, seconds: float = 0.0, notes: tuple[str, ...] = (),
    ) -> None:  # fmt: skip
        self.index, self.name, self.image = frame.index, frame.name, frame.image
        self.object_ids, self.probabilities = object_ids, probabilities
        self.seconds, self.notes = seconds, notes
        self._given, self._merge = given, merge

    @cached_property
    def ids(self) -> np.ndarray:
        """(H, W) uint8 at the frame's own size: the id of every pixel, 0 background."""
        return self.merged(self.object_ids)

    def merged(self, object_ids: Sequence[int]) -> np.ndarray:
        """As :attr:`ids`, from some of the objects alone."""
        size = self.image.shape[:2]
        starting = () if self._given is None else ids_in(self._given)
        running = [i for i in object_ids if i not in starting]
        maps = self.probabilities[[self.object_ids.index(i) for i in running]]
        if self._merge == "probabilities":
            ids = merge_objects(resize_probabilities(maps, size), running)
        else:
            ids = resize_ids(merge_objects(maps, running), size)
        if self._given is not None:
            starts = np.isin(self._given, [i for i in starting if i in object_ids])
            ids = np.where(starts, self._given, ids)
        return ids

    def overlay(self) -> Image.Image:
        """The frame with every object tinted in a colour of its own."""
        return Image.fromarray(objects_overlay(self.image, self.ids))


@dataclass
class _Object:
    """An object on its way: what was computed once, and its last mask (h, w) bool. network: its own where it was
    fine-tuned, else the one of all."""

    network: nn.Module
    scales: Tensor | None  # (1, channels)
    mask: np.ndarray


class Propagation:
    """The objects of one video, frame after frame.

    Args:
        network: offers `scales` and `segment` as :class:`ssnm.video.model.OSMN` does; in eval mode, on `device`.
        prompts: which object starts where.
        size: (width, height) of the network's input; None: as the settings have it.
        finetune: makes of (image (H, W, 3) uint8, mask (H, W) bool) a network of that object's own; None: no such.
    """

    def __init__(
        self,
        network: nn.Module,
        settings: Settings,
        prompts: Prompts,
        size: tuple[int, int] | None = None,
        device: torch.device | str = "cpu",
        finetune: Callable[[np.ndarray, np.ndarray], nn.Module] | None = None,
    ) -> None:
        self.network, self.settings, self.prompts = network, settings, prompts
        self.device, self._finetune, self._asked_size = torch.device(device), finetune, size
        self._objects: dict[int, _Object] = {}
        self._size: tuple[int, int] | None = None  # (h, w), from the first frame on

    def step(self, frame: Frame) -> FrameResult:
        """Segment the next frame.

        Raises:
            DataError: the mask of an object that starts here has another shape than the frame.
        """
        began = time.perf_counter()
        maps = self._segment(frame)  # id -> (h, w)
        seconds = time.perf_counter() - began
        given, notes = self._start(frame)
        starting = () if given is None else ids_in(given)
        maps |= {i: self._objects[i].mask.astype(np.float32) for i in starting}
        object_ids = tuple(sorted(maps))
        probabilities = np.stack([maps[i] for i in object_ids]) if maps else np.zeros((0, *self._size), np.float32)
        self._feed_back(object_ids, probabilities, starting)
        return FrameResult(frame, object_ids, probabilities, given, self.settings.merge, seconds, notes)

    def skip(self, frame: Frame) -> None:
        """A frame that an earlier run has done: objects that start in it are taken up, nothing is segmented."""
        self._start(frame)

    @property
    def masks(self) -> dict[int, np.ndarray]:
        """Id -> last mask (h, w) bool: all that the next frame needs of the past, beside the prompts."""
        return {i: self._objects[i].mask for i in sorted(self._objects)}

    def restore(self, masks: dict[int, np.ndarray]) -> None:
        """Take up the masks of an earlier run, after its frames were skipped.

        Raises:
            DataError: masks of other objects or of another size.
        """
        fits = set(masks) == set(self._objects) and all(m.shape == self._size for m in masks.values())
        if not fits:
            raise DataError("the earlier run followed other objects or had another size; start again without it")
        for i, mask in masks.items():
            self._objects[i].mask = np.asarray(mask, dtype=bool)

    def _segment(self, frame: Frame) -> dict[int, np.ndarray]:
        """Probabilities (h, w) float32 of the objects that are on their way."""
        if self._size is None:
            self._size = self.settings.network_size(frame.size, self._asked_size)
        if not self._objects:
            return {}
        image = self._image(frame.image)
        maps = {}
        for network, ids in self._batches():
            objects = [self._objects[i] for i in ids]
            guides = torch.from_numpy(np.stack([self._spatial_guide(o.mask) for o in objects])).to(self.device)
            scales = None if objects[0].scales is None else torch.cat([o.scales for o in objects])
            with torch.inference_mode():
                found = network.segment(image, guides, scales).float().sigmoid().cpu().numpy()  # (k, h, w)
            maps |= dict(zip(ids, found))
        return maps

    def _batches(self) -> list[tuple[nn.Module, list[int]]]:
        """The objects that one network takes at once; a fine-tuned object is alone with its own."""
        if self._finetune is not None:
            return [(o.network, [i]) for i, o in sorted(self._objects.items())]
        ids = sorted(self._objects)
        return [(self.network, ids[at : at + OBJECTS_AT_ONCE]) for at in range(0, len(ids), OBJECTS_AT_ONCE)]

    def _start(self, frame: Frame) -> tuple[np.ndarray | None, tuple[str, ...]]:
        """Take up the objects that start in this frame: their mask at its size (H, W), and notes."""
        if self._size is None:
            self._size = self.settings.network_size(frame.size, self._asked_size)
        given = self.prompts.of_frame(frame.index, frame.size, frame.name)
        if given is None:
            return None, ()
        notes = []
        for i in ids_in(given):
            whole = given == i
            mask = resize_ids(whole.astype(np.uint8), self._size) > 0
            network = self.network if self._finetune is None else self._finetune(frame.image, whole)
            scales, seen = self._scales(network, frame.image, whole)
            self._objects[i] = _Object(network, scales, mask)
            if not mask.any() or not seen:
                notes.append(
                    f"object {i} of frame {frame.name} is too small ({int(whole.sum())} pixels) for the network at "
                    f"{self._size[1]}x{self._size[0]}: it may be lost at once; a larger size helps"
                )
        return given, tuple(notes)

    def _scales(self, network: nn.Module, image: np.ndarray, mask: np.ndarray) -> tuple[Tensor | None, bool]:
        """What the visual modulator makes of the object, and whether its guide shows anything."""
        s = self.settings
        guide, shown = visual_guide(
            image, mask, VisualDraw.padded(s.pad_ratio), s.guide_side, s.guide_aspect == "keep", s.guide_background
        )
        pixels = _to_tensor(guide).to(self.device)
        with torch.inference_mode():
            scales = network.scales(pixels, torch.from_numpy(shown.astype(np.float32))[None].to(self.device))
        return scales, bool(shown.any())

    def _spatial_guide(self, mask: np.ndarray) -> np.ndarray:
        return gaussian_guide(mask) if self.settings.guide == "gaussian" else dilated_guide(mask)

    def _image(self, image: np.ndarray) -> Tensor:
        """(H, W, 3) uint8 -> (1, 3, h, w) float in [0, 1], bilinear as Pillow has it."""
        size = (self._size[1], self._size[0])
        return _to_tensor(np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BILINEAR))).to(self.device)

    def _feed_back(self, object_ids: tuple[int, ...], probabilities: np.ndarray, starting: tuple[int, ...]) -> None:
        """Remember what guides the next frame; objects that start keep their given mask."""
        merged = merge_objects(probabilities, object_ids) if self.settings.feedback == "merged" else None
        for i, probability in zip(object_ids, probabilities):
            if i not in starting:
                self._objects[i].mask = probability > 0.5 if merged is None else merged == i


def _to_tensor(pixels: np.ndarray) -> Tensor:
    """(H, W, 3) uint8 -> (1, 3, H, W) float in [0, 1]."""
    return torch.from_numpy(np.array(pixels)).permute(2, 0, 1)[None].float() / 255

