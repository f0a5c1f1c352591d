"""Functions that torch.compile calls and does not look into. Called by the solvers of the spatial mask."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch


def opaque_operator(
    name: str, signature: str, function: Callable[..., Any], shapes: Callable[..., Any]
) -> Callable[..., Any]:
    """`function` as the operator ssnm::`name`: one node of a compiled graph, on every device.

    For what decides on the host or would unroll into thousands of nodes, and needs no gradient. Who registers a name
    again, by reloading a module, gets the operator that is there. (`torch.library.custom_op` would load the compiler
    at the first call: seconds for whoever segments five photographs.)

    Args:
        signature: in torch's schema language, for instance "(Tensor matrix, float floor) -> (Tensor, Tensor)".
        function: returns new tensors, never its arguments.
        shapes: the same arguments -> empty tensors like those that `function` returns.
    """
    if not hasattr(torch.ops.ssnm, name):
        torch.library.define(f"ssnm::{name}", signature)
        torch.library.impl(f"ssnm::{name}", "default", function)
        torch.library.register_fake(f"ssnm::{name}", shapes)
    return getattr(torch.ops.ssnm, name).default
