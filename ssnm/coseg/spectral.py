"""The spatial modulator's clustering (Eq. 6-10): the leading eigenvector of G = X^T X - 1 1^T.

B groups, N images, M = N*h*w descriptors in a group, D channels. `descriptors` (B, M, D) holds the paper's
X^T: one unit row per position of every image. docs/spatial_modulator.md says why the solver is what it is.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from ..nn.opaque import on_float64_device, opaque_operator

Eigenpair = Callable[[Tensor], tuple[Tensor, Tensor]]  # symmetric (B, n, n) -> its largest: (B, n), (B,)

GRAM_ROWS = 16384  # rows turned to float64 at a time: bounds the memory of a large group
EIGENVALUE_FLOOR = 1e-3  # times M: below it the mask carries nothing, accuracy is measured against it
ROUNDING_FLOOR = 1e-6  # times M: what rounding of float32 descriptors alone gives to equal ones
CERTIFIED_GAP = 1e-8  # what the fast solver may miss of the eigenvalue before `eigh` replaces it
KRYLOV_BLOCK, KRYLOV_DEPTH, KRYLOV_CYCLES = 4, 8, 4
SQUARINGS = 16  # the 2^16-th power: separates eigenvalues that differ by 1e-3 of themselves


def unit_descriptors(maps: Tensor) -> Tensor:
    """One descriptor of unit length per position: (B, N, D, h, w) -> (B, N*h*w, D), order image, row, column. Of such
    rows the squared distance is d_ij = 2 - 2 x_i . x_j (Eq. 7).

    A row that is zero (shorter than 1e-12) stays zero and passes no gradient. At least float32.
    """
    x = maps.movedim(2, -1).flatten(1, 3)  # (B, N, D, h, w) -> (B, N, h, w, D) -> (B, M, D)
    x = x if x.dtype == torch.float64 else x.float()
    squared = x.square().sum(-1, keepdim=True)
    zero = squared <= 1e-24
    return (x * squared.masked_fill(zero, 1).rsqrt()).masked_fill(zero, 0)


def clustering_energy(descriptors: Tensor, vector: Tensor) -> Tensor:
    """s^T G s = ||X s||^2 - (1^T s)^2 (Eq. 9, without its constants): (B, M, D), (B, M) -> (B,).

    At the leading eigenvector this is its eigenvalue. The gradient reaches the descriptors only, 2 s s^T X:
    s counts as constant (envelope theorem), because ds/dX explodes where eigenvalues meet. Linear in M.
    Products are elementwise on purpose: TF32 and autocast would touch a matrix product.
    """
    x = on_float64_device(descriptors)
    s = vector.detach().to(x.device, x.dtype)[..., None]  # (B, M, 1)
    weighted_sum = (x * s).sum(1, dtype=torch.float64)  # (B, D)
    energy = weighted_sum.square().sum(-1) - s.sum((1, 2), dtype=torch.float64).square()
    return energy.to(descriptors.dtype).to(descriptors.device)


@torch.no_grad()
def leading_eigenvector(descriptors: Tensor) -> tuple[Tensor, Tensor]:
    """Eigenvector of G for its *algebraically* largest eigenvalue (Eq. 10), up to its sign, without gradient.

    Exact up to rounding: float64 inside, so neither autocast nor TF32 touches it. With M > D + 1 the M x M
    matrix is never formed and the cost is linear in M; on CUDA the host never waits for the device. Where
    the eigenvalue is below 1e-3 * M any finite unit vector may come back, and below 1e-6 * M (equal features,
    one position) the constant one does. A group with non-finite descriptors gives NaN and leaves the others alone.

    Args:
        descriptors: (B, M, D), rows of unit length or zero.

    Returns:
        vector (B, M) of unit length and eigenvalue (B,), in the descriptors' dtype (at least float32).
    """
    with torch.autocast(descriptors.device.type, enabled=False):
        return _solve_as_operator(descriptors)


def _solve(descriptors: Tensor) -> tuple[Tensor, Tensor]:
    x, dtype = on_float64_device(descriptors), _result_dtype(descriptors)
    _, count, channels = x.shape
    problem = solve_dense if count <= channels + 1 else solve_reduced
    vector, value = problem(x, partial(largest_eigenpair, floor=EIGENVALUE_FLOOR * count))
    length = torch.linalg.vector_norm(vector, dim=-1, keepdim=True)
    flat = (length == 0) | (value[:, None] < ROUNDING_FLOOR * count)  # nothing to cluster, s would be noise
    vector = torch.where(flat, count**-0.5, vector / length)
    return tuple(found.to(dtype).to(descriptors.device) for found in (vector, value))


def _result_dtype(descriptors: Tensor) -> torch.dtype:
    return torch.promote_types(descriptors.dtype, torch.float32)


def _shapes_of_solution(descriptors: Tensor) -> tuple[Tensor, Tensor]:
    batch, count, _ = descriptors.shape
    dtype = _result_dtype(descriptors)
    return descriptors.new_empty((batch, count), dtype=dtype), descriptors.new_empty(batch, dtype=dtype)


# One node of a graph, whatever the number of descriptors: which problem is solved, in how many blocks of rows, and on
# the CPU also how, depends on their number and values.
_solve_as_operator = opaque_operator(
    "leading_eigenvector", "(Tensor descriptors) -> (Tensor, Tensor)", _solve, _shapes_of_solution
)


def solve_dense(x: Tensor, eigenpair: Eigenpair) -> tuple[Tensor, Tensor]:
    """The leading eigenvector from the M x M matrix itself; `eigenpair` solves it. (B, M, D) -> (B, M), (B,)"""
    x = x.double()
    return eigenpair(x @ x.mT - 1)


def solve_reduced(x: Tensor, eigenpair: Eigenpair) -> tuple[Tensor, Tensor]:
    """The same, of any length, from a (D+1) x (D+1) problem with the same non-zero eigenvalues.

    With mu the mean descriptor, Xc = X - mu 1^T and A = [Xc; 1^T], G = A^T K A for K = [[I, mu], [mu^T, |mu|^2 - 1]],
    and A A^T = diag(Xc Xc^T, M) = L L^T. Solve L^T K L u = lambda u; s is proportional to A^T K L u. Without the
    centring, nearly equal descriptors leave their eigenvalue to the cancellation of two numbers of size M.
    """
    count = x.shape[1]
    mean = x.mean(1, dtype=torch.float64)  # mu, (B, D)
    lower = _cholesky_of_scatter(x, mean)  # (B, D, D)
    corner = mean.square().sum(-1) - 1  # (B,), <= 0
    coupling = count**0.5 * (lower.mT @ mean[..., None])  # (B, D, 1)
    bottom = torch.cat([coupling.mT, count * corner[:, None, None]], dim=-1)  # (B, 1, D+1)
    reduced = torch.cat([torch.cat([lower.mT @ lower, coupling], dim=-1), bottom], dim=1)  # L^T K L
    u, value = eigenpair(reduced)
    from_scatter = (lower @ u[:, :-1, None])[..., 0]  # L u, (B, D) ...
    from_ones = count**0.5 * u[:, -1:]  # ... and (B, 1)
    on_channels = (from_scatter + mean * from_ones)[..., None]  # K L u, (B, D, 1) ...
    on_ones = (mean * from_scatter).sum(-1, keepdim=True) + corner[:, None] * from_ones  # ... and (B, 1)
    rows = [_centred(part, mean) @ on_channels for part in x.split(GRAM_ROWS, dim=1)]
    return torch.cat(rows, dim=1)[..., 0] + on_ones, value


def _cholesky_of_scatter(x: Tensor, mean: Tensor) -> Tensor:
    """Lower factor of Xc Xc^T in float64, a block of rows at a time: (B, M, D), (B, D) -> (B, D, D).

    The matrix is singular for dependent channels: the multiple of I that Cholesky's rounding needs is added.
    """
    size = x.shape[-1]
    scatter = x.new_zeros((x.shape[0], size, size), dtype=torch.float64)
    for part in x.split(GRAM_ROWS, dim=1):
        rows = _centred(part, mean)
        scatter.baddbmm_(rows.mT, rows)
    diagonal = scatter.diagonal(dim1=-2, dim2=-1)
    diagonal.add_(torch.finfo(torch.float64).eps * size * diagonal.sum(-1, keepdim=True) + 1e-200)
    lower, _ = torch.linalg.cholesky_ex(scatter)  # the _ex form does not wait for the device
    return lower


def _centred(rows: Tensor, mean: Tensor) -> Tensor:
    return rows.double() - mean[:, None]


def largest_eigenpair(matrix: Tensor, floor: float) -> tuple[Tensor, Tensor]:
    """The algebraically largest eigenvalue of symmetric matrices with at most one negative eigenvalue.

    On CUDA by squaring (matrix products only, no synchronisation), elsewhere by a certified block Krylov
    method with `torch.linalg.eigh` for what it cannot certify. (B, n, n) float64 -> (B, n), (B,).

    Args:
        floor: eigenvalues below this need not be accurate relative to themselves, only relative to it.
    """
    usable = matrix.isfinite().flatten(1).all(1)  # (B,); `eigh` would raise and take the other groups along
    matrix = matrix.masked_fill(~usable[:, None, None], 0)
    vector, value = squaring_eigenpair(matrix) if matrix.is_cuda else certified_eigenpair(matrix, floor)
    nan = float("nan")
    return vector.masked_fill(~usable[:, None], nan), value.masked_fill(~usable, nan)


def certified_eigenpair(matrix: Tensor, floor: float) -> tuple[Tensor, Tensor]:
    """The Krylov method where it can prove its result, `eigh` for the other groups and for small matrices; it decides
    on the host. Arguments and results as :func:`largest_eigenpair`."""
    certain = torch.zeros(matrix.shape[0], dtype=torch.bool)
    vector, value = matrix.new_empty(matrix.shape[:2]), matrix.new_empty(matrix.shape[0])
    if matrix.shape[-1] > 2 * KRYLOV_BLOCK * KRYLOV_DEPTH:
        vector, value, certain = krylov_eigenpair(matrix, floor)
    if not certain.all():
        values, vectors = torch.linalg.eigh(matrix[~certain])
        vector[~certain], value[~certain] = vectors[..., -1], values[:, -1]
    return vector, value


def krylov_eigenpair(matrix: Tensor, floor: float) -> tuple[Tensor, Tensor, Tensor]:
    """Block Lanczos, one step of inverse iteration, and whether the result is proven.

    A Ritz value is a lower bound of the largest eigenvalue. It is proven to be that one, up to a small gap,
    when value + gap is an upper bound, that is, when (value + gap) I - matrix has a Cholesky factor. Inverse
    iteration with that factor takes the vector's error from about 1e-4 to rounding.

    Returns:
        vector (B, n), value (B,), certain (B,) bool; the first two mean nothing where the third is False.
    """
    vector, value = block_lanczos(matrix, floor)
    bound = value + CERTIFIED_GAP * value.clamp_min(floor)
    identity = torch.eye(matrix.shape[-1], dtype=matrix.dtype, device=matrix.device)
    lower, failure = torch.linalg.cholesky_ex(bound[:, None, None] * identity - matrix)
    vector = torch.cholesky_solve(vector[..., None], lower)
    vector = vector / torch.linalg.vector_norm(vector, dim=1, keepdim=True)
    value = (vector * (matrix @ vector)).sum((1, 2))
    return vector[..., 0], value, failure == 0


def block_lanczos(matrix: Tensor, floor: float, cycles: int = KRYLOV_CYCLES) -> tuple[Tensor, Tensor]:
    """The largest Ritz pair of a restarted block Krylov space, (B, n), (B,): at most `cycles` times depth steps.

    It stops when every residual is small enough for an error of the eigenvalue of about CERTIFIED_GAP.
    """
    generator = torch.Generator().manual_seed(0)  # a fixed start: the same group gives the same mask
    start = torch.randn(matrix.shape[-1], KRYLOV_BLOCK, generator=generator, dtype=matrix.dtype)
    block = start.to(matrix.device).expand(matrix.shape[0], -1, -1)
    for cycle in range(cycles):
        basis = _krylov_basis(matrix, block)
        image = matrix @ basis
        values, rotation = torch.linalg.eigh(basis.mT @ image)
        block = basis @ rotation[..., -KRYLOV_BLOCK:]  # a restart keeps the best few
        value, vector = values[:, -1], block[..., -1]
        if cycle < cycles - 1:
            residual = (image @ rotation[..., -1:])[..., 0] - value[:, None] * vector
            if (residual.square().sum(-1) <= CERTIFIED_GAP * value.clamp_min(floor).square()).all():
                break
    return vector, value


def _krylov_basis(matrix: Tensor, block: Tensor) -> Tensor:
    """Orthonormal basis of [V, G V, G^2 V, ...]: (B, n, n), (B, n, b) -> (B, n, b * depth).

    Every block is orthogonalised at once: the negative eigenvalue, a hundred times the wanted one, would
    drown everything else in plain powers.
    """
    basis = torch.linalg.qr(block)[0]
    for _ in range(KRYLOV_DEPTH - 1):
        following = matrix @ basis[..., -KRYLOV_BLOCK:]
        following = following - basis @ (basis.mT @ following)
        basis = torch.cat([basis, torch.linalg.qr(following)[0]], dim=-1)
    return torch.linalg.qr(basis)[0]  # a single pass of Gram-Schmidt leaves some overlap


def squaring_eigenpair(matrix: Tensor) -> tuple[Tensor, Tensor]:
    """Powers of a polynomial of the matrix by repeated squaring: a fixed number of matrix products.

    p(t) = (t - mu) (t + eta), with mu close to the one negative eigenvalue, takes that eigenvalue to about zero
    and keeps the order of the others; the small eta > 0 keeps zero apart from it, for matrices without a
    positive eigenvalue. p(matrix) to the power 2^16 is then v v^T to rounding, or a projection on nearly
    equal eigenvalues, of which any vector will do.
    """
    negative = _negative_ritz_value(matrix)[:, None, None]
    eta = -1e-10 * negative
    power = matrix @ matrix + (eta - negative) * matrix
    power.diagonal(dim1=-2, dim2=-1).sub_((negative * eta)[..., 0])
    for step in range(SQUARINGS):
        if step % 4 == 0:  # trace 1 puts the largest eigenvalue in [1/n, 1]: four squarings cannot underflow
            trace = power.diagonal(dim1=-2, dim2=-1).sum(-1)[:, None, None]
            power = power / trace.abs().clamp_min(1e-200)
        power = power @ power
    column = power.diagonal(dim1=-2, dim2=-1).argmax(-1)[:, None, None]
    vector = power.gather(2, column.expand(-1, power.shape[1], 1))  # (B, n, 1)
    vector = vector / vector.abs().amax(1, keepdim=True).clamp_min(1e-200)
    vector = vector / torch.linalg.vector_norm(vector, dim=1, keepdim=True).clamp_min(1e-200)
    return vector[..., 0], (vector * (matrix @ vector)).sum((1, 2))


def _negative_ritz_value(matrix: Tensor, steps: int = 4) -> Tensor:
    """An estimate from above of the smallest eigenvalue, <= 0: steepest descent with exact steps. (B,)"""
    batch, size, _ = matrix.shape
    w = matrix.new_full((batch, size, 1), size**-0.5)
    lowest = matrix.new_zeros((batch, 1, 1))
    for _ in range(steps):
        image = matrix @ w
        a = (w * image).sum(1, keepdim=True)
        residual = image - a * w
        b = torch.linalg.vector_norm(residual, dim=1, keepdim=True)
        q = residual / b.clamp_min(1e-200)
        c = (q * (matrix @ q)).sum(1, keepdim=True)
        # the smaller eigenvalue of [[a, b], [b, c]] and its vector (b, value - a)
        value = (a + c) / 2 - torch.hypot((a - c) / 2, b)
        combined = b * w + (value - a) * q
        length = torch.linalg.vector_norm(combined, dim=1, keepdim=True)
        w = torch.where(length > 0, combined / length.clamp_min(1e-200), w)
        lowest = torch.minimum(lowest, value)
    return lowest[:, 0, 0]
