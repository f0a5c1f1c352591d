"""Two processes on the CPU train as one does; a process that fails or is told to stop takes the others with it."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from ssnm.coseg import build as factory
from ssnm.coseg.config import config_from_dict
from ssnm.coseg.release.losses import ReleaseCriterion, batch_weighted_cross_entropy, smooth_l1_loss
from ssnm.engine.distributed import Processes, join, wrap
from ssnm.errors import ConfigError

HERE = Path(__file__).parent
ROOT = HERE.parents[1]

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are forked: POSIX only")


def environment() -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> Path:
    """The folder of all scenarios of distributed_worker.py."""
    root = tmp_path_factory.mktemp("runs")
    subprocess.run([sys.executable, HERE / "distributed_worker.py", root], check=True, env=environment(), timeout=300)
    return root


@pytest.fixture(scope="module")
def status(runs) -> dict:
    return json.loads((runs / "status.json").read_text())


def last(runs: Path, name: str) -> dict:
    return torch.load(runs / name / "checkpoints" / "last.pt", weights_only=True)


def largest_difference(one: dict, other: dict) -> float:
    assert one.keys() == other.keys()
    return max(float((one[k].double() - other[k].double()).abs().max()) for k in one)


def rows(runs: Path, name: str) -> list[dict]:
    return [json.loads(line) for line in (runs / name / "log.jsonl").read_text().splitlines()]


# The same run


@pytest.mark.slow
@pytest.mark.parametrize(
    "one, other",
    [("one", "two"), ("one", "two_accumulating"), ("release_one", "release_two"), ("one", "resumed"), ("one", "grown")],
)
def test_two_processes_train_to_the_weights_of_one(runs, status, one, other):
    assert status[one] + status[other] == [0] * len(status[one] + status[other])
    start = last(runs, "warm")["model"]
    first, second = last(runs, one), last(runs, other)
    assert largest_difference(first["model"], start) > 1e-4  # they did train
    assert largest_difference(first["model"], second["model"]) < 1e-5
    assert largest_difference(first["ema"], second["ema"]) < 1e-5


@pytest.mark.slow
def test_the_saved_weights_have_no_prefix(runs, status):
    model = factory.build_model(config_from_dict(last(runs, "two")["config"], "x").model, 12, "none")
    assert last(runs, "two")["model"].keys() == model.state_dict().keys()


@pytest.mark.slow
def test_the_log_says_what_one_process_would_and_is_written_once(runs, status):
    one, two = rows(runs, "one"), rows(runs, "two")
    assert [r["step"] for r in two] == [r["step"] for r in one] == [2, 3, 4]
    assert two[1]["loss/total"] == pytest.approx(one[1]["loss/total"], abs=1e-5)
    assert two[2]["val/J"] == pytest.approx(one[2]["val/J"])


# Stopping and failing


@pytest.mark.slow
def test_a_signal_to_one_process_stops_all_after_the_same_step(status):
    assert status["stopped"] == [0, 0] and status["stopped_at"] == {"resumed": 3, "grown": 3}


@pytest.mark.slow
def test_a_process_that_fails_ends_the_others_with_an_error(runs, status):
    assert status["failing"] == [1, 1]  # and not -14, the alarm that ends a hang
    assert "the disk of rank 1 burns" in (runs / "failing.1.txt").read_text()


@pytest.mark.slow
def test_a_validation_that_fails_ends_those_who_wait_for_it(runs, status):
    assert status["failing_validation"] == [1, 1]
    assert "the validation of rank 0 burns" in (runs / "failing_validation.0.txt").read_text()


@pytest.mark.slow
def test_bad_images_of_every_process_are_said_once_listed_and_counted(runs, status):
    assert status["bad_images"] == [0, 0]
    said = [(runs / f"bad_images.{rank}.txt").read_text() for rank in (0, 1)]
    for image in ("0.png", "1.png"):
        assert said[0].count(f"bad image: {image}: is torn") == 1 and image not in said[1]
    assert "bad images: 2, replaced 2 times" in said[0]
    assert len((runs / "bad_images" / "bad_images.jsonl").read_text().splitlines()) == 2


@pytest.mark.slow
def test_the_limit_of_bad_images_is_that_of_all_processes_together(runs, status):
    assert status["too_many_bad"] == [1, 1]
    for rank in (0, 1):
        assert "2 bad images, data.max_bad_images allows 1" in (runs / f"too_many_bad.{rank}.txt").read_text()


@pytest.mark.slow
def test_a_non_finite_loss_of_one_process_stops_all_and_is_told_by_the_one(runs, status):
    assert status["spoilt"] == [1, 1]
    assert "the loss of another process is not finite" in (runs / "spoilt.0.txt").read_text()
    assert "step 2: the loss is not finite" in (runs / "spoilt.1.txt").read_text()
    assert last(runs, "spoilt")["step"] == 2  # saved with the validation, before the bad step


# The parts


def test_the_release_losses_of_two_shares_average_to_that_of_the_whole_batch():
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(4, 2, 6, 6, generator=generator)
    masks = (torch.rand(4, 2, 6, 6, generator=generator) > 0.7).float()
    valid = torch.rand(4, 2, 6, 6, generator=generator) > torch.tensor([0.1, 0.2, 0.6, 0.8]).view(4, 1, 1, 1)
    for loss, counts in (
        (batch_weighted_cross_entropy, lambda m, v: torch.stack([(m * v).sum(), v.sum().float()])),
        (smooth_l1_loss, lambda m, v: v.sum().float()),
    ):
        shared = counts(masks, valid) / 2  # the mean over two processes of their counts
        parts = [loss(logits[s], masks[s], valid[s], lambda _: shared) for s in (slice(0, 2), slice(2, 4))]
        alone = [loss(logits[s], masks[s], valid[s]) for s in (slice(0, 2), slice(2, 4))]
        torch.testing.assert_close(sum(parts) / 2, loss(logits, masks, valid))
        assert abs(float(sum(alone) / 2 - loss(logits, masks, valid))) > 1e-4
    assert ReleaseCriterion().mean(logits) is logits


def test_parameters_without_a_gradient_are_found():
    shared = {"model": {"dim": 8, "backbone": {"name": "mobilenetv2_035", "weights": "none"}},
              "data": {"size": 32, "group_size": 2, "teacher": "maps.npz"}}

    def untrained(loss: dict) -> set[str]:
        config = config_from_dict({**shared, "loss": loss}, "x")
        model = factory.build_model(config.model, 3)
        return {name.split(".")[0] for name in factory.untrained_parameters(model, config, 3)}

    assert untrained({"spa": 1.0}) == set()
    assert untrained({"spa": 0.0}) == {"fusion"}
    assert untrained({"sem": 0.0}) == {"semantic"}  # its classifier only
    assert untrained({"sem": 0.0, "sem_image": 1.0}) == set()
    assert untrained({"seg": 0.0, "teacher": 1.0, "spa": 1.0}) == set()


def test_one_process_needs_no_group(monkeypatch):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    processes, device = join("cpu")
    assert (processes.rank, processes.world, device) == (0, 1, "cpu") and processes.is_first
    assert processes.any(True) and not processes.any(False)
    assert wrap(torch.nn.Linear(1, 1), processes, []) is None
    assert Processes().mean_losses({"a": torch.tensor(2.0, requires_grad=True)})["a"].requires_grad is False


def test_several_processes_on_one_named_device_are_refused(monkeypatch):
    for name, value in {"WORLD_SIZE": "2", "RANK": "0", "LOCAL_RANK": "0"}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError, match="must be cpu or cuda"):
        join("cuda:1")


def test_a_batch_that_cannot_be_shared_equally_is_refused():
    config = config_from_dict(
        {"data": {"sources": [{"type": "procedural", "num_images": 60}], "size": 32, "group_size": 2}}, "x"
    )
    pool, _ = factory.build_pools(config.data)
    with pytest.raises(ConfigError, match="a multiple of processes x train.accumulate = 3 x"):
        factory.build_loader(config, pool, 0, 0, 3)


# By the launcher


def torchrun(script: Path, *arguments) -> subprocess.CompletedProcess:
    """Two processes; a run that hangs ends the test."""
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    return subprocess.run([*launcher, script, *arguments], env=environment(), capture_output=True, text=True,
                          timeout=300)


@pytest.mark.slow  # .ci/run has a line for it
def test_torchrun_trains_with_two_processes_of_which_one_speaks(tiny_config, tmp_path):
    done = torchrun(ROOT / "train.py", tiny_config, "--device", "cpu", "--out", tmp_path / "run")
    assert done.returncode == 0, done.stderr
    assert last(tmp_path, "run")["step"] == 4
    assert done.stdout.count("\ndone: step 4;") == 1 and done.stderr.count("step 4/4 ") == 1


@pytest.mark.slow
def test_the_line_for_several_machines_joins_two_launchers(tiny_config, tmp_path):
    """Two launchers on this machine, each with one process, meet at an address, as docs/distributed.md writes it."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        meeting = f"--rdzv_endpoint=127.0.0.1:{free.getsockname()[1]}"
    command = [sys.executable, "-m", "torch.distributed.run", "--nnodes=2", "--nproc_per_node=1",
               "--rdzv_backend=c10d", meeting, "--rdzv_id=1", ROOT / "train.py", tiny_config, "--device", "cpu",
               "--out", tmp_path / "run"]
    machines = [subprocess.Popen(command, env=environment(), stdout=subprocess.PIPE, text=True) for _ in range(2)]
    try:
        printed = [machine.communicate(timeout=300)[0] for machine in machines]
    finally:
        for machine in machines:
            machine.kill()
    assert [machine.returncode for machine in machines] == [0, 0]
    assert sorted("done: step 4;" in text for text in printed) == [False, True]
    assert last(tmp_path, "run")["step"] == 4


FAILING = """\
import os, sys
from ssnm.coseg import build as factory
from ssnm.cli import main
from ssnm.errors import DataError

build = factory.build_loader

def loader(*arguments):
    for count, batch in enumerate(build(*arguments)):
        if os.environ["RANK"] == "1" and count == 2:
            raise DataError("the disk of rank 1 burns")
        yield batch

factory.build_loader = loader
sys.exit(main(["train", *sys.argv[1:]]))
"""


@pytest.mark.slow  # .ci/run has a line for it
def test_torchrun_ends_with_the_error_of_the_process_that_failed(tiny_config, tmp_path):
    script = tmp_path / "failing.py"
    script.write_text(FAILING)
    endless = ["--set", "train.steps=1000000", "validation.every=1000000"]
    done = torchrun(script, tiny_config, "--device", "cpu", "--out", tmp_path / "run", *endless)
    assert done.returncode != 0
    assert "error: the disk of rank 1 burns" in done.stderr.splitlines()
    assert "step 2/1000000 " in done.stderr and "step 3/1000000 " not in done.stderr
