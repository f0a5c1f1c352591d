"""Solvers for the spatial modulator compared: accuracy and time. `python benchmarks/solver.py [--device cuda]`

Every candidate turns descriptors (B, M, D) into the leading eigenvector of G = X^T X - 1 1^T (the last two into
what the release has in its place). Two kinds of groups: `clustered`, object and background apart, as in real
groups; `random`, no structure, eigenvalues crowded at the top. Only the winner lives in `ssnm.coseg.spectral`.
"""

from __future__ import annotations

import argparse
import platform
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from math import sqrt

import measuring
import torch
from torch import Tensor

from ssnm.coseg import spectral
from ssnm.coseg.release.adam200 import adam200

SIZES = ((4, 245), (4, 3920), (1, 4900), (1, 78400))
CHANNELS = (128, 512)
GROWTH = (5, 50, 125, 250, 500, 1000)  # images in one group
REPEATS, SLOW_SECONDS = 7, 1.0


@dataclass(frozen=True)
class Row:
    """One measurement: median, spread (max - min) and fastest call in milliseconds; the fastest is the one to compare
    on a machine that has other work. Errors are the worst group's, against float64 `eigh`; None: the reference."""

    method: str
    groups: int
    descriptors: int
    channels: int
    kind: str
    milliseconds: float
    spread: float
    fastest: float
    cosine_loss: float | None
    eigenvalue_error: float | None


def make_descriptors(kind: str, groups: int, count: int, channels: int, device: str) -> Tensor:
    """(B, M, D) unit rows, non-negative as after a ReLU; the same numbers on every device."""
    generator = torch.Generator().manual_seed(count + channels)
    maps = torch.randn(groups, count, channels, generator=generator)
    if kind == "clustered":
        prototypes = torch.randn(groups, 2, channels, generator=generator)
        is_object = (torch.rand(groups, count, generator=generator) < 0.3).long()[..., None]
        maps += prototypes.gather(1, is_object.expand(-1, -1, channels))
    return torch.nn.functional.normalize(maps.relu(), dim=-1).to(device)


def eigh_dense(x: Tensor) -> tuple[Tensor, Tensor]:
    """`torch.linalg.eigh` on the M x M matrix in float64."""
    x = x.double()
    values, vectors = torch.linalg.eigh(x @ x.mT - 1)
    return vectors[..., -1], values[:, -1]


def reduced_with(solve: Callable[[Tensor], tuple[Tensor, Tensor]]) -> Callable[[Tensor], tuple[Tensor, Tensor]]:
    """The (D+1) x (D+1) problem, its largest eigenpair found by `solve`."""

    def run(x: Tensor) -> tuple[Tensor, Tensor]:
        vector, value = spectral.solve_reduced(x, solve)
        return vector / torch.linalg.vector_norm(vector, dim=-1, keepdim=True), value

    return run


def dense_with(solve: Callable[[Tensor], tuple[Tensor, Tensor]]) -> Callable[[Tensor], tuple[Tensor, Tensor]]:
    """The M x M problem, its largest eigenpair found by `solve`."""
    return lambda x: spectral.solve_dense(x, solve)


def small_eigh(matrix: Tensor) -> tuple[Tensor, Tensor]:
    values, vectors = torch.linalg.eigh(matrix)
    return vectors[..., -1], values[:, -1]


def fixed_krylov(matrix: Tensor) -> tuple[Tensor, Tensor]:
    """Block Krylov with a fixed number of steps, nothing certified."""
    return spectral.block_lanczos(matrix, floor=0.0, cycles=1)


def adam200_by_autograd(x: Tensor) -> tuple[Tensor, None]:
    """The release's solver step by step, group after group, with autograd and torch.optim.Adam."""
    results = []
    for group in x:
        count = group.shape[0]
        gram = group @ group.T - 1
        s = torch.full((count,), 1 / sqrt(count), device=x.device, requires_grad=True)
        optimiser = torch.optim.Adam([s], lr=0.01)
        for _ in range(200):
            optimiser.zero_grad()
            norm = s.norm()
            barrier = -torch.log(2 - norm) if norm >= 1 else -torch.log(norm)
            (50 * barrier - s @ (gram @ s)).backward()
            optimiser.step()
        results.append(s.detach())
    return torch.stack(results), None


def candidates(count: int, channels: int) -> dict[str, Callable[[Tensor], tuple[Tensor, Tensor | None]]]:
    """What is worth running at this size: nothing that needs a matrix of M x M for large M."""
    small = count <= 512
    methods: dict[str, Callable] = {"eigh, dense": eigh_dense} if small else {}
    methods["eigh, reduced"] = reduced_with(small_eigh)
    form = dense_with if count <= channels + 1 else reduced_with
    methods["block Krylov, fixed steps"] = form(fixed_krylov)
    methods["squaring"] = form(spectral.squaring_eigenpair)
    methods["leading_eigenvector (used)"] = spectral.leading_eigenvector
    methods["adam200"] = lambda x: (adam200(x), None)
    if small:
        methods["adam200, autograd steps"] = adam200_by_autograd
    return methods


def timed(run: Callable[[], object], device: str) -> tuple[float, float, float]:
    """Median, spread and fastest in milliseconds, warmed up; a slow call is made once."""
    synchronise = torch.cuda.synchronize if device.startswith("cuda") else (lambda: None)
    times = []
    for repeat in range(REPEATS + 1):
        synchronise()
        start = time.perf_counter()
        run()
        synchronise()
        seconds = time.perf_counter() - start
        if repeat or seconds > SLOW_SECONDS:  # the first call warms up, unless it is too slow to be repeated
            times.append(seconds * 1e3)
        if seconds > SLOW_SECONDS:
            break
    return statistics.median(times), max(times) - min(times), min(times)


def measure(device: str, sizes: tuple = SIZES, channels: tuple = CHANNELS) -> list[Row]:
    """Every candidate at every size: `sizes` of (B, M), `channels` D."""
    rows = []
    for groups, count in sizes:
        for dim in channels:
            for kind in ("clustered", "random"):
                x = make_descriptors(kind, groups, count, dim, device)
                methods = candidates(count, dim)
                reference = next(iter(methods))
                exact_vector, exact_value = methods[reference](x)
                for name, method in methods.items():
                    vector, value = method(x)
                    unit = vector.double() / torch.linalg.vector_norm(vector.double(), dim=-1, keepdim=True)
                    cosine_loss = 1 - (unit * exact_vector).sum(-1).abs().min().item()
                    error = None if value is None else ((value - exact_value).abs() / exact_value).max().item()
                    if name == reference:
                        cosine_loss = error = None
                    times = timed(partial(method, x), device)
                    rows.append(Row(name, groups, count, dim, kind, *times, cosine_loss, error))
    return rows


def growth(device: str, images: tuple = GROWTH, channels: tuple = CHANNELS, positions: int = 49) -> list[dict]:
    """Time of the spatial mask of one group of so many images of 7 x 7 positions: per image it must not grow."""
    rows = []
    for dim in channels:
        for count in images:
            x = make_descriptors("clustered", 1, count * positions, dim, device)
            run = partial(spectral.leading_eigenvector, x)
            times = [1e3 * seconds for seconds in measuring.timed(run, torch.device(device), 5)]
            rows.append({"images": count, "descriptors": count * positions, "channels": dim,
                         "milliseconds": statistics.median(times), "spread": max(times) - min(times),
                         "fastest": min(times), "fastest_per_image": min(times) / count})
    return rows


def print_table(rows: list[Row]) -> None:
    print(f"{'B x M':>9} {'D':>4} {'group':<10}{'method':<28}{'median ms':>10}{'spread':>9}{'fastest':>9}"
          f"{'1 - |cos|':>12}{'d lambda':>11}")
    for r in rows:
        loss = "reference" if r.cosine_loss is None else f"{max(r.cosine_loss, 0):.1e}"
        error = "-" if r.eigenvalue_error is None else f"{r.eigenvalue_error:.1e}"
        size = f"{r.groups}x{r.descriptors}"
        print(f"{size:>9} {r.channels:>4} {r.kind:<10}{r.method:<28}{r.milliseconds:>10.2f}{r.spread:>9.2f}"
              f"{r.fastest:>9.2f}{loss:>12}{error:>11}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--sizes", nargs="+", metavar="BxM", help="some of the sizes only, such as 4x245")
    args = parser.parse_args()
    device = args.device
    sizes = tuple(tuple(int(n) for n in size.split("x")) for size in args.sizes) if args.sizes else SIZES
    name = torch.cuda.get_device_name(device) if device.startswith("cuda") else platform.processor() or "CPU"
    print(f"{device} ({name}), {torch.get_num_threads()} CPU threads, torch {torch.__version__}, float64 inside")
    print_table(measure(device, sizes))
    for row in growth(device):
        print("  ".join(f"{key} {value:.4g}" for key, value in row.items()))


if __name__ == "__main__":
    main()
