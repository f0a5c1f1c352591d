"""What the solvers of the spatial mask need: functions that torch.compile and torch.export call and do not look into,
and a device that computes in float64."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

WITHOUT_FLOAT64 = ("mps", "xpu")  # of XPUs some have it


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


def on_float64_device(x: Tensor) -> Tensor:
    """`x` itself, or on the CPU where its device knows no float64 (Apple's, most of Intel's); gradients pass."""
    return x.cpu() if x.device.type in WITHOUT_FLOAT64 else x
