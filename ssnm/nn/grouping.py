"""The only place where the group axis is folded into the batch axis and unfolded again.

B groups, N images in a group. By `reshape`: tracing (ONNX) takes the sizes behind `flatten` for constants.
"""

from torch import Tensor


def fold_groups(x: Tensor) -> Tensor:
    """(B, N, ...) -> (B*N, ...): image n of group b is row b*N + n."""
    return x.reshape(x.shape[0] * x.shape[1], *x.shape[2:])


def unfold_groups(x: Tensor, group_size: int) -> Tensor:
    """(B*N, ...) -> (B, N, ...), the inverse of :func:`fold_groups`."""
    return x.reshape(-1, group_size, *x.shape[1:])
