"""Smoke tests of the benchmarks on tiny sizes, and of what their figures mean."""

import importlib
import json
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch.autograd import DeviceType

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
TINY = "mobilenetv2_035"


@pytest.fixture
def load(monkeypatch):
    """Imports a benchmark as its command does, and knows one more model, a tiny one."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    monkeypatch.setitem(importlib.import_module("network").MODELS, TINY, 16)
    return importlib.import_module


def tiny_training(load, device: torch.device, precision: str = "fp32"):
    return load("network").Training.make(TINY, precision, device, 2, 3, 64)


# Parts of a step


def test_the_step_cut_into_parts_has_the_gradients_of_the_whole_one(load, device):
    cut, whole = tiny_training(load, device), tiny_training(load, device)
    load("profile_step").gradients_by_part(cut, load("profile_step").PartClock(device))
    whole.criterion(whole.model(whole.batch.images), whole.batch)["total"].backward()
    wanted = dict(whole.model.named_parameters())
    for name, parameter in cut.model.named_parameters():
        torch.testing.assert_close(parameter.grad, wanted[name].grad, rtol=1e-3, atol=1e-5, msg=name)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_every_part_of_a_step_is_timed(load, device, precision):
    seconds = load("profile_step").parts(tiny_training(load, device, precision), repeats=1, warm_up=0)
    assert {part for part, _ in seconds} == {"backbone", "fusion", "spatial", "semantic", "head", "loss", "optimiser"}
    assert all(value > 0 for value in seconds.values())
    assert ("backbone", "backward") in seconds and ("optimiser", "backward") not in seconds


def test_the_profile_names_the_operators_of_a_step(load, device):
    profile_step = load("profile_step")
    record = profile_step.profiled(tiny_training(load, device), steps=1)
    rows = profile_step.operator_rows(record, 1, on_device=device.type == "cuda", count=1000)
    assert {"aten::addmm", "aten::convolution_backward"} <= {row["operator"] for row in rows}
    assert sum(row["share"] for row in rows) == pytest.approx(1)
    if device.type == "cuda":
        calls = {row["host"]: row["per_step"] for row in profile_step.host_call_rows(record.events(), 1)}
        assert calls["kernel launches"] > 100 and calls["waits for the whole queue"] == 0


def test_host_calls_are_counted_inside_the_profiled_steps_only(load):
    profile_step = load("profile_step")

    def event(name: str, start: int, end: int, kind=DeviceType.CPU) -> SimpleNamespace:
        return SimpleNamespace(name=name, device_type=kind, time_range=SimpleNamespace(start=start, end=end))

    events = [
        event(profile_step.SPAN, 0, 90, DeviceType.CUDA), event(profile_step.SPAN, 10, 50),
        *[event("cudaLaunchKernel", t, t + 1) for t in (5, 12, 20, 30, 60)], event("cuLaunchKernel", 40, 41),
        event("cudaStreamSynchronize", 45, 49), event("cudaDeviceSynchronize", 55, 70),
    ]  # fmt: skip
    calls = {row["host"]: row["per_step"] for row in profile_step.host_call_rows(events, 2)}
    assert calls["kernel launches"] == 2 and calls["waits for the whole queue"] == 0.5
    assert sum(calls.values()) == 2.5


# Rows


def test_a_row_of_the_network_benchmark_is_measured(load, device):
    row = load("network").measure_model(TINY, "fp32", False, str(device), 64, 1, 2, 1)
    assert row["images_per_s"] == pytest.approx(2 / row["step_s"])
    assert 0 < row["spatial_share"] < 1 and row["peak_gib"] > 0.01


def test_inference_of_one_group_and_of_several_is_measured(load, device):
    for groups, images in ((1, 2), (2, 2), (1, 21)):
        row = load("inference").measure_case(TINY, groups, images, str(device), 64, 1)
        assert row["images_per_s"] == pytest.approx(groups * images / row["seconds"])
        assert ("chunks of" in row["call"]) == (images == 21)


def test_segmenting_a_group_of_photographs_is_measured(load, device):
    row = load("segment_group").measure_group(3, 40, 60, str(device), None)
    assert row["size"] == "60x40" and row["images_per_s"] == pytest.approx(3 / row["segment_s"])
    assert 0 < row["peak_gib_before"] <= row["peak_gib"]


def test_the_floor_counts_a_convolution_by_hand(load, monkeypatch):
    network = load("network")
    layer = torch.nn.Conv2d(3, 4, 3, padding=1, bias=False)
    model = torch.nn.Sequential(torch.nn.Flatten(0, 1), layer)
    monkeypatch.setattr(network, "build", lambda name: model)
    operations, values = network.cost_per_image("any", 8)
    assert operations == 2 * 8 * 8 * 4 * 3 * 9
    assert values == (3 + 3) * 64 + (3 + 4) * 64  # in and out of the flattening and of the convolution


def test_the_time_of_a_mask_is_measured_for_growing_groups(load, device):
    rows = load("solver").growth(str(device), images=(2, 8), channels=(16,))
    assert [(r["images"], r["descriptors"]) for r in rows] == [(2, 98), (8, 392)]
    assert rows[1]["fastest_per_image"] == pytest.approx(rows[1]["fastest"] / 8)


# The command


def test_a_process_of_its_own_has_its_own_peak_memory(load):
    measuring, cpu = load("measuring"), torch.device("cpu")
    held = torch.ones(2**27)  # half a GiB here, and not there
    peak = measuring.peak_gib(cpu)
    assert peak > held.nbytes / 2**30 and measuring.alone(measuring.peak_gib, cpu) < peak - 0.3


def test_a_benchmark_that_fails_does_not_stop_the_others(load, monkeypatch, tmp_path, capsys):
    run = load("run")

    def broken(args):
        raise RuntimeError("no such thing")

    result = {"name": "good", "rows": [{"a": 1.23456, "b": None}], "tables": {"more": [{"c": 2}]}}
    monkeypatch.setattr(run, "BENCHMARKS", {"bad": broken, "good": lambda args: result})
    out = tmp_path / "results.json"
    assert run.main(["--out", str(out)]) == 1
    said = capsys.readouterr().out
    assert "| 1.235 |  |" in said and "### more" in said and "failed: bad" in said
    assert json.loads(out.read_text())["results"] == [result]


# What was made faster


def test_what_was_made_faster_is_measured_beside_its_old_form(load):
    result = load("before_after").measure(rounds=1, images=2000, size=64, backbones=(TINY,))
    assert len(result["rows"]) == 7 and all(row["before_s"] > 0 and row["ratio"] > 0 for row in result["rows"])
    before, after = (row["MB"] for row in result["tables"]["bytes of a batch, 4 x 5 images"])
    assert before == pytest.approx(17 / 5 * after)


def test_photographs_are_timed_by_part(load, monkeypatch, checkpoint):
    photographs = load("photographs")
    monkeypatch.setattr(photographs, "SIZE", (120, 160))
    row = photographs.measure_folder(6, "cpu", str(checkpoint))
    assert row["ratio"] == pytest.approx(row["whole_s"] / row["network_s"]) and row["photographs"] == 6
    assert all(row[f"{part}_s"] > 0 for part in ("whole", "network", "read", "mask", "save_masks", "save_overlays"))


def test_reduced_and_whole_readings_are_compared(load, monkeypatch, written_set, tmp_path):
    reduced = load("reduced_decoding")
    (tmp_path / "VOC_coseg_FaktorIrani").symlink_to(written_set)
    monkeypatch.setattr(reduced, "LONGER_SIDE", 90)
    row, control = reduced.measure(tmp_path, groups=1, group_size=2)["rows"]
    assert row["photographs"] == 2 and row["IoU_mean"] == 1 and row["J_first"] == row["J_second"]
    assert control["photographs"] == 2 and 0 <= control["IoU_lowest"] <= control["IoU_mean"] <= 1
