"""The benchmark of videos runs, and gives every object its work."""

import importlib.util
from pathlib import Path


def test_every_object_is_segmented_in_every_frame(segmenter, network, monkeypatch):
    path = Path(__file__).parents[2] / "benchmarks" / "video.py"
    spec = importlib.util.spec_from_file_location("benchmark_of_videos", path)
    benchmark = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(benchmark)
    seen = []
    original = network.segment

    def segment(images, guides, scales):
        seen.append(int((guides.amax((1, 2)) > 0.9).sum()))
        return original(images, guides, scales)

    monkeypatch.setattr(network, "segment", segment)
    assert benchmark.frames_per_second(segmenter, (64, 48), 3, frames=2) > 0
    assert seen == [3] * (benchmark.WARM_UP + 1)
