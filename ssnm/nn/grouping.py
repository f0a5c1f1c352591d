"""The only place where the group axis is folded into the batch axis and unfolded again.

B groups, N images in a group.
"""

from torch import Tensor


def fold_groups(x: Tensor) -> Tensor:
    """(B, N, ...) -> (B*N, ...): image n of group b is row b*N + n."""
    return x.flatten(0, 1)


def unfold_groups(x: Tensor, group_size: int) -> Tensor:
    """(B*N, ...) -> (B, N, ...), the inverse of :func:`fold_groups`."""
    return x.unflatten(0, (-1, group_size))
