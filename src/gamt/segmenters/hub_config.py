"""Configurations of models on the hub: read, and brought to what builds a network.

A configuration is a stranger's file, and the classes of transformers do as it says: look up models
on the hub, take code for attention from there, or have timm load a pickle. So of each part only the
settings that describe its network go through, and all else is left out.
"""

import re
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any, TypeAlias

from transformers import CONFIG_MAPPING, PreTrainedConfig

from gamt.segmenters import SegmenterError
from gamt.segmenters.checkpoints import CheckpointError
from gamt.segmenters.hub_files import CONFIG_BYTES, read_json
from gamt.text import printable

ConfigClass: TypeAlias = Any
"""A class of configurations, such as `transformers.Sam2Config`."""

LARGEST = 10_000
"""No number of a published model is larger (docs/constants.md)."""

MOST = 100
"""No published model has more layers, blocks or outputs, more tokens on a side of the slices that
it remembers, or a longer list (docs/constants.md)."""

BACKBONE_ARGUMENTS = ("in_chans", "features_only", "out_indices")
"""What EdgeTAM tells timm of its image encoder. Others make timm read files."""

_COMMON = frozenset(one.name for one in fields(PreTrainedConfig))
_COMPUTED = ("image_size", "num_classes", "rope_theta")
"""Settings that classes take without having them as fields."""

_EARLIER_NAMES = {"memory_attention_rope_theta": "rope_theta"}
_COUNTS = re.compile("layers|blocks|depth|outputs|stages|rope_feat_sizes|rope_k_sizes")
_ARCHITECTURE = re.compile(r"(repvit|test)_[\w.]+", re.ASCII)
"""EdgeTAM's image encoders, and those small ones that timm has for tests. timm has others that take
minutes to build, and takes what follows a colon for a place to load from."""


def read_config(path: Path) -> dict[str, Any]:
    """Reads a configuration.

    Raises:
        SegmenterError: the file holds no JSON object, or is larger than any configuration.
    """
    try:
        return _object(read_json(path, CONFIG_BYTES), path)
    except CheckpointError as error:
        raise SegmenterError(str(error)) from error


def find_part(described: Mapping[str, Any], key: str, path: Path) -> dict[str, Any]:
    """Returns a part of a configuration; one without settings where there is none.

    Raises:
        SegmenterError: the part is no JSON object.
    """
    return _object(described.get(key, {}), path, key)


def select_settings(
    described: Mapping[str, Any], config: ConfigClass, vision: str, path: Path
) -> dict[str, Any]:
    """Returns the settings of a configuration that describe a network.

    What its parts say of their own types isn't heeded: most published ones say nothing, or another
    name than transformers has today.

    Args:
        described: the configuration, as transformers writes it, or has written it since 2023.
        config: the class that it is for.
        vision: the type that the image encoder's part has in transformers.
        path: the file that errors name.

    Raises:
        SegmenterError: a part is no JSON object, a number is larger than in any published model, or
            timm is to be told something else than which network of EdgeTAM's it is.
    """
    names = {one.name for one in fields(config)} - _COMMON | {*_COMPUTED}
    settings: dict[str, Any] = {}
    for given, value in described.items():
        key = _EARLIER_NAMES.get(given, given)
        if key not in names or value is None:
            continue
        part = config.sub_configs_defaults.get(key)
        if part is None:
            _check(key, value, path)
            settings[key] = value
            continue
        kind = vision if key == "vision_config" else part.model_type
        chosen = select_settings(_object(value, path, key), CONFIG_MAPPING[kind], vision, path)
        settings[key] = {**chosen, "model_type": kind}
    return settings


def _check(key: str, value: Any, path: Path) -> None:
    """Checks one setting.

    Raises:
        SegmenterError: as in `select_settings`.
    """
    if key == "model_args":
        for name in _object(value, path, key):
            if name not in BACKBONE_ARGUMENTS:
                raise SegmenterError(
                    f"{path}: found {name!r:.99} in model_args, expected none but "
                    f"{', '.join(BACKBONE_ARGUMENTS)}"
                )
    if key == "architecture" and not _ARCHITECTURE.fullmatch(str(value)):
        raise SegmenterError(
            f"{path}: found architecture {value!r:.99}, expected timm's repvit_..."
        )
    if isinstance(value, list | dict):
        if len(value) > MOST:
            found = f"{len(value)} in {printable(key):.99}"
            raise SegmenterError(f"{path}: found {found}, expected {MOST} at most")
        named = value.items() if isinstance(value, dict) else [(key, one) for one in value]
        for name, one in named:
            _check(name, one, path)
    elif isinstance(value, int | float):
        most = MOST if _COUNTS.search(key) else LARGEST
        if not -most <= value <= most:
            found = f"{printable(key):.99} {value!r:.99}"
            raise SegmenterError(f"{path}: found {found}, expected {most} at most")


def _object(value: Any, path: Path, key: str | None = None) -> dict[str, Any]:
    if not isinstance(value, dict):
        where = f" as {key}" if key else ""
        raise SegmenterError(f"{path}: found a {type(value).__name__}{where}, expected an object")
    return value
