"""Frames per second of a video model: time of the network alone, float32, without reading, merging and writing.

    python benchmarks/video.py [MODEL] [--size 427 240] [--objects 1 2 5] [--threads 1] [--device cpu]

Drawn noise with as many square objects, through the same code as `ssnm video`; the median over the frames after the
first ones. The clock waits for the device: probabilities are in the host's memory when it stops.
"""

from __future__ import annotations

import argparse
import statistics

import numpy as np
import torch

import ssnm
from ssnm.video.frames import Frame
from ssnm.video.prompts import prompts_from
from ssnm.video.segmenter import VideoSegmenter

WARM_UP = 3


def frames_per_second(segmenter: VideoSegmenter, size: tuple[int, int], objects: int, frames: int = 12) -> float:
    """1 / median seconds of a frame of `size` (width, height), which is the network's size too."""
    rng = np.random.default_rng(0)
    width, height = size
    mask = np.zeros((height, width), np.uint8)
    side = max(4, width // (2 * objects + 1))
    for i in range(objects):
        mask[height // 4 : height // 4 + side, (2 * i + 1) * side : (2 * i + 2) * side] = i + 1
    propagation = segmenter.start(prompts_from(mask), size)
    seconds = []
    for index in range(frames + WARM_UP):
        image = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
        propagation.restore({i: mask == i for i in propagation.masks})  # objects that are lost would be no work less
        seconds.append(propagation.step(Frame(index, f"{index:05d}", image)).seconds)
    return 1 / statistics.median(seconds[WARM_UP:])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", nargs="?", default="video", help="a model file, or the word video (default)")
    parser.add_argument("--size", type=int, nargs=2, default=(427, 240), metavar=("W", "H"))
    parser.add_argument("--objects", type=int, nargs="+", default=[1, 2, 5], metavar="N")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads (default 1)")
    parser.add_argument("--device", default="cpu")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    segmenter = ssnm.from_pretrained(args.model, args.device)
    print(f"{args.model} at {args.size[0]}x{args.size[1]}, {segmenter.device}, {args.threads} threads, float32, torch "
          f"{torch.__version__}")  # fmt: skip
    for objects in args.objects:
        print(f"  {objects} objects: {frames_per_second(segmenter, tuple(args.size), objects):.2f} frames/s")


if __name__ == "__main__":
    main()
