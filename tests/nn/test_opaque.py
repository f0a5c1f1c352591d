"""Operators that torch.compile does not look into: the function's own result, in a graph, after a reload, by torch's
own checks of operators."""

import importlib

import pytest
import torch

from ssnm.coseg import spectral
from ssnm.coseg.release import adam200 as adam200_module
from ssnm.nn.opaque import opaque_operator


@pytest.fixture
def descriptors() -> torch.Tensor:
    torch.manual_seed(0)
    return torch.nn.functional.normalize(torch.randn(2, 70, 16), dim=-1)


def test_torch_accepts_the_operators(descriptors):
    torch.library.opcheck(torch.ops.ssnm.leading_eigenvector.default, (descriptors,))
    torch.library.opcheck(torch.ops.ssnm.adam200.default, (descriptors,))


@pytest.mark.parametrize("module", [spectral, adam200_module], ids=["spectral", "adam200"])
def test_a_module_with_an_operator_can_be_reloaded(module):
    importlib.reload(module)


def test_a_graph_holds_one_node_and_gives_the_same_bits(descriptors):
    nodes = []

    def counting(graph, inputs):
        nodes.extend(node for node in graph.graph.nodes if node.op == "call_function")
        return graph

    torch.compiler.reset()
    compiled = torch.compile(adam200_module.adam200, fullgraph=True, backend=counting)(descriptors)
    assert len(nodes) < 10  # the operator, and what turns gradients off and on
    assert torch.equal(compiled, adam200_module.adam200(descriptors))


def test_a_name_that_is_taken_gives_the_operator_that_is_there(descriptors):
    again = opaque_operator("adam200", "(Tensor x) -> Tensor", torch.neg, torch.empty_like)
    assert again is torch.ops.ssnm.adam200.default
