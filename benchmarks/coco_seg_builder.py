"""Time and memory of the COCO-SEG builder on a made-up annotation file of train2017's size.

    python benchmarks/coco_seg_builder.py [--images 118287] [--instances 860000] [--folder DIR]

Writes polygons and crowd run lengths with COCO's spread of instance areas, category shares and instances per
image, runs ssnm datasets coco-seg on the file in a process of its own, then opens the index as a training
source in another, and prints seconds and peak resident memory of both. The content is random; the size is real.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

REPOSITORY = Path(__file__).resolve().parent.parent
CROWD_SHARE = 0.0117  # 10,052 crowd regions of 860,001 instances in train2017
LOG_SIDE = (3.73, 1.16)  # log of sqrt(area): 41 % of instances below 32^2 px, 36 % above 4000 px
OPEN_SOURCE = """
import resource, sys, time
from pathlib import Path
from ssnm.data.coco import CocoSegSource
from ssnm.data.coco_index import read_index

def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / 1e6

before, start = resident(), time.perf_counter()
source = CocoSegSource(sys.argv[1], sys.argv[2])
seconds, held = time.perf_counter() - start, resident() - before
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3 - before
print(f"open: {seconds:.1f} s, {held:.0f} MB held, {peak:.0f} MB at the peak")
index = read_index(sys.argv[1])
chosen = range(0, index.num_images, max(1, index.num_images // 500))
start = time.perf_counter()
for image in chosen:
    list(index.masks_of(image))
print(f"masks of an image at full size: {1e3 * (time.perf_counter() - start) / len(chosen):.2f} ms")
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=118_287)
    parser.add_argument("--instances", type=int, default=860_000)
    parser.add_argument("--folder", type=Path, help="where to work (default: a temporary folder)")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=args.folder) as name:
        folder = Path(name)
        annotations, index = folder / "instances.json", folder / "index.json"
        start = time.perf_counter()
        write_annotations(annotations, args.images, args.instances)
        print(f"annotation file: {args.images} images, {args.instances} instances, "
              f"{annotations.stat().st_size / 1e6:.0f} MB, written in {time.perf_counter() - start:.0f} s", flush=True)
        start = time.perf_counter()
        builder = [sys.executable, "-m", "ssnm.cli", "datasets", "coco-seg"]
        subprocess.run([*builder, annotations, "--out", index], check=True, cwd=REPOSITORY)
        peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1e6
        print(f"build: {time.perf_counter() - start:.0f} s, peak {peak:.2f} GB", flush=True)
        subprocess.run([sys.executable, "-c", OPEN_SOURCE, index, folder], check=True, cwd=REPOSITORY)


def write_annotations(path: Path, num_images: int, num_instances: int) -> None:
    """Write the file piece by piece, so that this process stays small beside the one it measures."""
    generator = np.random.default_rng(0)
    shares = 1 / np.arange(1, 81) ** 0.8
    shares[0] = shares.sum() * 0.43  # person: 30 % of COCO's instances
    crowd = generator.random(num_instances) < CROWD_SHARE
    # Few images hold many instances: gamma weights, for COCO's 7.3 per image with a long tail.
    weights = generator.gamma(1.5, size=num_images)
    owners = generator.choice(num_images, num_instances, p=weights / weights.sum())
    # An image's instances mostly repeat its two or three categories.
    palette = generator.choice(80, (num_images, 4), p=shares / shares.sum())
    chosen = palette[owners, generator.integers(0, 4, num_instances)]
    with open(path, "w", encoding="ascii") as file:
        file.write('{"info":{"description":"synthetic"},"categories":')
        json.dump([{"id": c + 1, "name": f"kind {c}", "supercategory": "synthetic"} for c in range(80)], file)
        file.write(',"images":')
        json.dump([_image_record(i) for i in range(num_images)], file)
        file.write(',"annotations":[')
        for number in range(num_instances):
            record = _crowd(generator) if crowd[number] else _polygon(generator)
            record |= {"id": number, "image_id": int(owners[number]), "category_id": int(chosen[number]) + 1}
            file.write(("," if number else "") + json.dumps(record))
        file.write("]}")


def _image_record(number: int) -> dict:
    return {"license": 3, "file_name": f"{number:012d}.jpg", "height": 480, "width": 640, "id": number,
            "coco_url": f"http://images.invalid/train2017/{number:012d}.jpg", "date_captured": "2013-11-14 11:18:45",
            "flickr_url": f"http://photos.invalid/{number:010d}_z.jpg"}


def _polygon(generator: np.random.Generator) -> dict:
    side = min(float(np.exp(generator.normal(*LOG_SIDE))), 420.0)
    corners = int(np.clip(side / 3.5, 6, 120))
    angle = np.linspace(0, 2 * np.pi, corners, endpoint=False)
    radius = side / np.sqrt(np.pi) * (1 + 0.25 * generator.uniform(-1, 1, corners))
    x, y = generator.uniform(0, 640), generator.uniform(0, 480)
    outline = np.stack([np.clip(x + radius * np.cos(angle), 0, 640), np.clip(y + radius * np.sin(angle), 0, 480)], 1)
    low, high = outline.min(0), outline.max(0)
    return {"segmentation": [np.round(outline, 2).ravel().tolist()], "area": round(side * side, 4), "iscrowd": 0,
            "bbox": np.round([*low, *(high - low)], 2).tolist()}


def _crowd(generator: np.random.Generator) -> dict:
    runs = generator.integers(1, 2400, 1000)
    total = np.cumsum(runs)
    runs = runs[: int(np.searchsorted(total, 640 * 480))]
    counts = [*runs.tolist(), 640 * 480 - int(runs.sum())]
    return {"segmentation": {"size": [480, 640], "counts": counts}, "area": int(sum(counts[1::2])), "iscrowd": 1,
            "bbox": [0, 0, 640, 480]}


if __name__ == "__main__":
    main()
