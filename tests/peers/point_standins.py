"""Checkpoints of SAM-Med3D and VISTA3D with random weights: runs in the peers' environment.

    python point_standins.py FOLDER

Writes ``sam_med3d.pth``, at full size, and ``vista3d.pth``, of a narrower network: the full one
takes minutes for a window on a CPU.
"""

import sys
from pathlib import Path

import medim
import torch
from monai.networks.nets.vista3d import vista3d132

NARROW = 8
"""Features, of 48."""


def main(folder: Path) -> None:
    """Writes both into a folder, which is made."""
    folder.mkdir(parents=True)
    torch.manual_seed(17)
    network = medim.create_model("SAM-Med3D")
    torch.save({"model_state_dict": network.state_dict()}, folder / "sam_med3d.pth")
    network = vista3d132(encoder_embed_dim=NARROW)
    torch.save(network.state_dict(), folder / "vista3d.pth")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
