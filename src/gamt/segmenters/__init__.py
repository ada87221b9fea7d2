"""Promptable 2-D segmenters, looked up by name.

A segmenter is named in one of four ways: by a name of `BUILT_IN`, by a name that an installed
package registers in the entry-point group ``gamt.segmenters``, by an import path
``package.module:Class``, or as a model of the Hugging Face hub, ``hf:ORG/NAME`` or ``hf:FOLDER``.
Nothing is imported before it is asked for.
"""

import importlib
from collections.abc import Callable
from functools import partial
from importlib.metadata import entry_points
from inspect import getattr_static
from pathlib import Path
from typing import Any, cast

from gamt.segmenters import checkpoints
from gamt.segmenters.base import Embedding, Segmenter, SliceMask, Traits
from gamt.segmenters.checkpoints import CheckpointError
from gamt.segmenters.door import describe_exception

__all__ = [
    "BUILT_IN",
    "DEFAULT",
    "Embedding",
    "Segmenter",
    "SegmenterError",
    "SliceMask",
    "Traits",
    "find_files",
    "load",
]

BUILT_IN = {
    "statistical": "gamt.segmenters.statistical:StatisticalSegmenter",
    "sam_vit_b": "gamt.segmenters.sam:sam_vit_b",
    "sam_vit_l": "gamt.segmenters.sam:sam_vit_l",
    "sam_vit_h": "gamt.segmenters.sam:sam_vit_h",
    "medsam": "gamt.segmenters.sam:medsam",
    "sam_med2d": "gamt.segmenters.sam_med2d:sam_med2d",
    "sam2.1_hiera_tiny": "gamt.segmenters.sam2:sam2_1_hiera_tiny",
    "sam2.1_hiera_small": "gamt.segmenters.sam2:sam2_1_hiera_small",
    "sam2.1_hiera_base_plus": "gamt.segmenters.sam2:sam2_1_hiera_base_plus",
    "sam2.1_hiera_large": "gamt.segmenters.sam2:sam2_1_hiera_large",
    "medsam2": "gamt.segmenters.sam2:medsam2",
}
"""Names of this package's own segmenters, and where what makes them is."""

HUB = "hf:"
"""What the names of models of the Hugging Face hub begin with."""

HUB_FACTORY = "gamt.segmenters.hub:load_segmenter"
"""Where what makes these is."""

DEFAULT = "statistical"
"""The embedded segmenter: no checkpoint, no GPU."""

ENTRY_POINT_GROUP = "gamt.segmenters"

STORING = ("fingerprint", "pack", "unpack")
"""What a segmenter has whose embeddings can be kept in a folder; see `StorableSegmenter`."""

HUB_MODULES = ("gamt.segmenters.hub", "gamt.segmenters.sam2")
"""The modules that need what the extra `hub` installs."""

INSTALL = "pip install 'gamt[sam]', in a clone make setup-all"
"""The commands that get the packages which some built-in segmenters need."""

INSTALL_HUB = "pip install 'gamt[hub]', in a clone make setup-all"
"""The commands that get the packages which models of the hub need."""


class SegmenterError(ValueError):
    """A segmenter that can't be found or can't be set up as asked."""


def load(
    name: str = DEFAULT, weights: str | None = None, device: str = "auto", **options: Any
) -> Segmenter:
    """Finds a segmenter by name and sets it up.

    Args:
        name: a built-in name, an entry point's name, ``package.module:Class``, or
            ``hf:ORG/NAME[@REVISION]`` or ``hf:FOLDER``.
        weights: path of a checkpoint; handed on only when given.
        device: ``auto``, or a device that the segmenter knows; handed on unless ``auto``.
        options: further keyword arguments of the segmenter's class.

    Raises:
        SegmenterError: if no such segmenter exists, if it does not take these arguments or can't
            be set up for whatever reason, or if what they make is no segmenter.
        CheckpointError: if its checkpoint is missing or broken.
    """
    factory = _find(name)
    arguments = dict(options)
    if weights is not None:
        arguments["weights"] = weights
    if device != "auto":
        arguments["device"] = device
    try:
        segmenter = factory(**arguments)
        fault = _find_fault(segmenter)
    except (KeyboardInterrupt, SegmenterError, CheckpointError):
        raise
    except BaseException as error:  # also SystemExit, of code that was written as a program
        given = ", ".join(sorted(arguments)) or "no arguments"
        raise SegmenterError(
            f"segmenter {name!r} can't be set up with {given}: {describe_exception(error)}"
        ) from error
    if fault is not None:
        raise SegmenterError(f"{name!r} makes no segmenter: {fault}")
    return cast(Segmenter, segmenter)


def find_files(name: str = DEFAULT, weights: str | None = None) -> tuple[Path, ...]:
    """Returns the files that hold a segmenter's model; loads none of them.

    Args:
        name: as for `load`.
        weights: likewise.

    Returns:
        Its configuration, if it has one, and its weights. Of a segmenter of another package, which
        alone knows what it loads, that is `weights`, if there is a file of this name.

    Raises:
        SegmenterError: a package is missing.
        CheckpointError: a file is missing.
    """
    path = None if weights is None else Path(weights)
    if name.startswith(HUB):
        from gamt.segmenters.hub_files import find

        try:
            found = find(name, path)
        except ModuleNotFoundError as error:
            raise SegmenterError(
                f"segmenter {name!r} needs the package {error.name}: {INSTALL_HUB}"
            ) from error
        return (found.config, *found.weights)
    if name in BUILT_IN and name != DEFAULT:
        return (checkpoints.find(name, path),)
    return () if path is None or not path.is_file() else (path,)


def _find_fault(segmenter: Any) -> str | None:
    """Returns what an object lacks of the protocol `Segmenter`, in a few words; None if nothing."""
    for attribute, kind in (("name", str), ("traits", Traits)):
        if not isinstance(getattr(segmenter, attribute, None), kind):
            found = type(getattr(segmenter, attribute, None)).__name__
            return f"found {found} as its {attribute!r}, expected {kind.__name__}"
    for method in ("encode", "decode"):
        if not callable(getattr(segmenter, method, None)):
            return f"expected a method {method!r}"
    # Looked up statically: to read a fingerprint may mean to read a checkpoint.
    missing = [one for one in STORING if getattr_static(segmenter, one, None) is None]
    if 0 < len(missing) < len(STORING):
        some = " and ".join(repr(one) for one in STORING if one not in missing)
        return f"found {some} without {missing[0]!r}"
    return None


def _find(name: str) -> Callable[..., Any]:
    if name.startswith(HUB):
        return partial(_import(name, HUB_FACTORY), name)
    registered = {entry.name: entry.value for entry in entry_points(group=ENTRY_POINT_GROUP)}
    path = BUILT_IN.get(name) or registered.get(name) or name
    if ":" not in path:
        known = ", ".join(sorted({*BUILT_IN, *registered}))
        raise SegmenterError(
            f"no segmenter is named {name!r}; expected one of {known}, or 'package.module:Class', "
            "or 'hf:ORG/NAME'"
        )
    return _import(name, path)


def _import(name: str, path: str) -> Callable[..., Any]:
    """Imports what makes the segmenter of a name from ``package.module:attribute``."""
    module, _, attribute = path.partition(":")
    try:
        return cast(Callable[..., Any], getattr(importlib.import_module(module), attribute))
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # of the path, or whatever the module's own code raises
        own = name in BUILT_IN or name.startswith(HUB)
        if own and isinstance(error, ModuleNotFoundError):
            install = INSTALL_HUB if module in HUB_MODULES else INSTALL
            raise SegmenterError(
                f"segmenter {name!r} needs the package {error.name}: {install}"
            ) from error
        raise SegmenterError(
            f"segmenter {name!r} can't be imported: {describe_exception(error)}"
        ) from error
