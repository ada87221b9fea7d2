"""A network of SAM's architecture that is small enough for many tests, with random weights."""

import re

import torch

from benchmarks.standins import TABLE
from gamt.segmenters.networks import Architecture, Network, build_network


def small_network(side: int = 320, seed: int = 0) -> Network:
    """Builds one with weights: blocks with windows first and last, and one without between.

    At 320 px there are 20 x 20 tokens, so windows of 14 x 14 are cut at 6.
    """
    network = build_network(Architecture(48, 3, 3, (1,), side))
    generator = torch.Generator().manual_seed(seed)
    state = {
        key: torch.randn(weight.shape, generator=generator) * _spread(key, weight)
        + (weight.ndim == 1 and key.endswith("weight"))
        for key, weight in network.state_dict().items()
    }
    network.load_state_dict(state, assign=True)
    return network.requires_grad_(False)


def _spread(key: str, weight: torch.Tensor) -> float:
    """Returns the standard deviation with which a layer's output is of order 1."""
    if weight.ndim == 1:
        return 0.2
    if re.search(TABLE, key):
        return 1.0
    if "output_upscaling" in key:  # transposed convolutions: the input's channels come first
        return float(weight.shape[0] ** -0.5)
    return float(weight[0].numel() ** -0.5)
