"""SAM-Med2D: SAM's ViT-B on slices of 256 px, with an adapter in every block of the encoder."""

import os
from dataclasses import replace

import torch
from torch import nn

from gamt.segmenters import checkpoints
from gamt.segmenters.frames import Squash
from gamt.segmenters.networks import VIT_B, build_network, load_checkpoint
from gamt.segmenters.sam import SamSegmenter

ARCHITECTURE = replace(VIT_B, side=256)
"""SAM's own but for the size of the input."""


class Adapter(nn.Module):
    """The branch that SAM-Med2D adds beside the MLP of a block (Cheng et al. 2023, figure 3).

    Channels are weighted by what the whole slice holds, then mixed with those of their neighbours
    at half the resolution. The attributes' names are those of the checkpoint's keys.
    """

    def __init__(self, width: int) -> None:
        """Builds an adapter for tokens of `width` channels, a multiple of 4."""
        super().__init__()
        self.channel = nn.Sequential(
            nn.Linear(width, width // 4, bias=False),
            nn.ReLU(),
            nn.Linear(width // 4, width, bias=False),
            nn.Sigmoid(),
        )
        self.spatial = nn.Sequential(
            nn.Conv2d(width, width, 3, stride=2, padding=1, bias=False),
            nn.ReLU(),
            nn.ConvTranspose2d(width, width, 4, stride=2, padding=1, bias=False),
            nn.ReLU(),
        )
        self.norm = nn.LayerNorm(width)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """Returns what is added to a block's output, beside that of its MLP.

        Args:
            tokens: (N, rows, columns, width), the input of the MLP; rows and columns are even.
        """
        weights = self.channel(tokens.mean(dim=(1, 2)))[:, None, None]
        spatial = self.spatial((weights * tokens).permute(0, 3, 1, 2))
        normalised: torch.Tensor = self.norm(tokens + spatial.permute(0, 2, 3, 1))
        return normalised


class ProbabilityPrompt(nn.Sequential):
    """The layers that embed a mask prompt, here given log-odds.

    SAM-Med2D was trained with the sigmoid of its earlier scores where SAM takes the scores.
    """

    def forward(self, masks: torch.Tensor) -> torch.Tensor:
        """Embeds log-odds (N, 1, rows, columns)."""
        embedded = masks.sigmoid()
        for layer in self:
            embedded = layer(embedded)
        return embedded


def sam_med2d(
    weights: str | os.PathLike[str] | None = None,
    device: str = "auto",
    dtype: str = "auto",
    adapter: bool = True,
) -> SamSegmenter:
    """Sets up SAM-Med2D, which takes the best of three masks unless told otherwise.

    Args:
        weights: the checkpoint ``sam-med2d_b.pth``; None looks for it
            (`gamt.segmenters.checkpoints.find`).
        device: ``auto``, or a name that torch knows.
        dtype: precision of the image encoder: ``auto``, ``float32`` or ``bfloat16``.
        adapter: False leaves the adapters out, whose weights the checkpoint has all the same.

    Raises:
        SegmenterError: segment-anything is not installed, the device or precision is unknown, or
            the checkpoint's weights are not those of this network.
        CheckpointError: there is no checkpoint.
    """
    path = checkpoints.find("sam_med2d", weights)
    network = build_network(ARCHITECTURE)
    blocks = network.image_encoder.blocks
    for block in blocks:
        with torch.device("meta"):
            block.Adapter = Adapter(ARCHITECTURE.width)
    prompt_encoder = network.prompt_encoder
    prompt_encoder.mask_downscaling = ProbabilityPrompt(*prompt_encoder.mask_downscaling)
    load_checkpoint(network, path)
    if not adapter:
        for block in blocks:
            del block.Adapter
    return SamSegmenter(
        "sam_med2d",
        network,
        Squash(ARCHITECTURE.side),
        path,
        device=device,
        dtype=dtype,
        multimask=lambda prompt: True,
        preparation="" if adapter else "without adapters",
    )
