"""Peers of this project as sessions, for ``--method session:evaluation.peers:NAME``.

Their packages are not among this project's; docs/peers.md says how to get them and their weights.
"""

import os
from importlib import import_module
from pathlib import Path
from typing import Any

from evaluation.sessions import FactoryError, Session


def nninteractive(folder: str | None = None, device: str = "auto") -> Session:
    """Returns nnInteractive's own session, set up as its authors did for the challenge.

    Args:
        folder: of a trained model, with ``plans.json`` and one ``fold_...``; None for the default
            model, which nnInteractive gets from its hub where it isn't here yet.
        device: "auto" for the GPU where there is one; or as torch names it, such as "cuda:1".

    Raises:
        FactoryError: nnInteractive isn't installed, or the folder holds no model.
    """
    sessions = _import("nnInteractive.inference.inference_session", "nninteractive")
    if folder is None:
        management = import_module("nnInteractive.model_management")
        path = management.ensure_model_available(management.get_default_model_id())
    else:
        path = Path(folder)
        if not (path / "plans.json").is_file():
            raise FactoryError(f"{folder}: no plans.json, expected a trained model's folder")
    session: Any = sessions.nnInteractiveInferenceSession(
        device=_choose_device(device),
        torch_n_threads=sessions.torch.get_num_threads(),  # workers share the cores
        enable_undo=False,  # spares it copies that nobody asks for
    )
    session.initialize_from_trained_model_folder(os.fspath(path))
    made: Session = session
    return made


def _import(module: str, package: str) -> Any:
    """Imports a module of a peer.

    Raises:
        FactoryError: its package isn't installed.
    """
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        raise FactoryError(
            f"{error}; this installs it: pip install {package} (docs/peers.md)"
        ) from error


def _choose_device(name: str) -> Any:
    """Returns a torch device."""
    import torch

    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(name)
