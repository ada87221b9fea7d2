"""The settings that a user chose: the preset, changed by the environment and the command line."""

import os
from collections.abc import Sequence
from dataclasses import replace

from gamt.cli.console import UsageError
from gamt.settings import PRESETS, Settings, SettingsError, override, shorten

VARIABLE_PREFIX = "GAMT_"
NOT_SETTINGS = frozenset(
    VARIABLE_PREFIX + name
    for name in (
        *("PRESET", "SEGMENTER", "DEVICE", "DTYPE", "CACHE"),
        *("WEIGHTS", "WEIGHTS_DIR", "WEIGHTS_MIRROR"),
    )
)
"""Variables of the environment that are meant for something else than a setting."""


def choose_settings(preset: str, changes: Sequence[str], budget: bool | None = None) -> Settings:
    """Returns the preset, changed by the environment, changed by ``KEY=VALUE`` texts.

    Args:
        preset: its name.
        changes: from the command line.
        budget: replaces the preset's; None leaves it.

    Raises:
        SettingsError: no preset or setting has that name, or a setting can't take that value.
        UsageError: one of `changes` isn't ``KEY=VALUE``.
    """
    if preset not in PRESETS:
        raise SettingsError(
            f"no preset is named {shorten(preset)!r}; expected one of {', '.join(PRESETS)}"
        )
    settings = PRESETS[preset] if budget is None else replace(PRESETS[preset], budget=budget)
    for variable, value in sorted(os.environ.items()):
        # An empty variable counts as none, as for the options.
        if variable.startswith(VARIABLE_PREFIX) and variable not in NOT_SETTINGS and value:
            name = variable.removeprefix(VARIABLE_PREFIX).lower()
            try:
                settings = override(settings, {name: value})
            except SettingsError as error:
                raise SettingsError(f"variable {variable}: {error}") from error
    for change in changes:
        name, separator, value = change.partition("=")
        if not separator:
            raise UsageError(f"--set {shorten(change)}: expected KEY=VALUE")
        settings = override(settings, {name.strip(): value.strip()})
    return settings
