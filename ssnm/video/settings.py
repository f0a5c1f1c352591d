"""What segmenting a video needs beside the network: the `inference` part of a model file. No torch."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal, Mapping

from ..errors import CheckpointError, ConfigError

SMALLEST_SIDE = 16  # pixels: five levels of a backbone need one cell
GRID = 16


@dataclass(frozen=True)
class Settings:
    """size: (width, height) of the network's input. aspect: "stretch" brings every frame to that size, as the authors
    do; "keep" takes from it the area alone, with the shape of the first frame, in steps of 16 pixels.

    Of the visual guide: guide_side, pad_ratio, guide_aspect ("stretch" or "keep"), guide_background (shown too). Of the
    spatial guide: "gaussian" or "dilated" (mask). merge: "labels" merges at network size and enlarges ids by nearest
    neighbour (section 8 of the authors' evaluation), "probabilities" enlarges the maps first. feedback: what the next
    frame is guided by: "own" map above one half, whatever other objects say, or the "merged" labels.
    """

    size: tuple[int, int] = (854, 480)
    aspect: Literal["stretch", "keep"] = "stretch"
    guide_side: int = 224
    pad_ratio: float = 0.03
    guide_aspect: Literal["stretch", "keep"] = "stretch"
    guide_background: bool = False
    guide: Literal["gaussian", "dilated"] = "gaussian"
    merge: Literal["labels", "probabilities"] = "labels"
    feedback: Literal["own", "merged"] = "own"

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for a model file."""
        return {**asdict(self), "size": list(self.size)}

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any], where: str) -> Settings:
        """What :meth:`to_dict` gave; keys that are missing keep their defaults.

        Raises:
            CheckpointError: an unknown key, or a value of another kind.
        """
        defaults = asdict(cls())
        for key, value in stored.items():
            if key not in defaults:
                raise CheckpointError(f"{where}: what inference needs has an unknown entry {key!r}; update ssnm")
            kind = (int, float) if isinstance(defaults[key], float) else type(defaults[key])
            if key != "size" and (not isinstance(value, kind) or (kind is int and isinstance(value, bool))):
                raise CheckpointError(f"{where}: {key} of what inference needs is damaged ({value!r})")
        try:
            return cls(**{**stored, "size": check_size(stored.get("size", cls.size))})
        except ConfigError as error:
            raise CheckpointError(f"{where}: {error}") from None

    def network_size(self, frame: tuple[int, int], size: tuple[int, int] | None = None) -> tuple[int, int]:
        """(height, width) of the network's input for a video whose first frame has (height, width) `frame`.

        size: (width, height) that a user asks for; it is taken as it is.
        """
        if size is not None or self.aspect == "stretch":
            width, height = self.size if size is None else size
            return height, width
        scale = (self.size[0] * self.size[1] / (frame[0] * frame[1])) ** 0.5
        height, width = (max(GRID, round(side * scale / GRID) * GRID) for side in frame)
        return height, width


def check_size(size: Any) -> tuple[int, int]:
    """(width, height) as two whole numbers.

    Raises:
        ConfigError: anything else, or a side below 16.
    """
    try:
        width, height = (int(side) for side in size)
        whole = all(int(side) == side for side in size)
    except (TypeError, ValueError):
        raise ConfigError(f"size: (width, height) of the network's input is needed, got {size!r}") from None
    if not whole or min(width, height) < SMALLEST_SIDE:
        raise ConfigError(f"size: width and height of at least {SMALLEST_SIDE} pixels are needed, got {size!r}")
    return width, height
