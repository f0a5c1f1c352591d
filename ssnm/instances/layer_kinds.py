"""Which layers there are, as peak back-propagation sees them."""

import operator

import torch
from timm.layers import BatchNormAct2d, Conv2dSame, DropPath, SEModule
from timm.models._efficientnet_blocks import SqueezeExcite
from torch import nn

RECTIFIERS = (nn.ReLU, nn.ReLU6)
"""Gate what is not above zero."""

ACTIVATIONS = (*RECTIFIERS, nn.SiLU, nn.Hardswish, nn.GELU, nn.Mish, nn.LeakyReLU, nn.ELU)

SCALES = (SqueezeExcite, SEModule)
"""Multiply each channel by one number per image."""

PASSED_THROUGH = (nn.Identity, nn.Dropout, DropPath, *SCALES, *ACTIVATIONS[len(RECTIFIERS) :])
"""Cells keep their place and their sign matters no more than the next layer's minimum says."""

LEAVES = (BatchNormAct2d, Conv2dSame, DropPath, *SCALES)
"""Modules of timm that stay one node of the graph."""

SUMS = (operator.add, operator.iadd, torch.add)
