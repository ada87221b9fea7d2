"""Windows of intensities, and how users write them."""

import math

import pytest

from gamt.windows import NAMED_WINDOWS, IntensityWindow, parse_window


def test_level_is_the_middle_and_width_the_difference() -> None:
    window = IntensityWindow.of_level(40, 400)
    assert window == (-160, 240)
    assert (window.level, window.width) == (40, 400)
    assert window.describe() == "level 40, width 400"
    other = IntensityWindow.of_level(-0.51254, 123456)
    assert other.describe() == "level -0.5125, width 123500"
    widest = IntensityWindow(-1.7e308, 1.7e308)
    assert widest.describe() == "level 0, width 1.79769313486232e+308"


@pytest.mark.parametrize(
    ("text", "low", "high"),
    [
        ("soft-tissue", -160, 240),
        ("lung", -1350, 150),
        ("Bone", -500, 1300),
        (" brain ", 0, 80),
        ("40,400", -160, 240),
        ("-600, 1500", -1350, 150),
        ("0.5,0.25", 0.375, 0.625),
        ("1e3,2e3", 0, 2000),
    ],
)
def test_a_window_is_written_as_a_name_or_as_level_and_width(
    text: str, low: float, high: float
) -> None:
    assert parse_window(text) == IntensityWindow(low, high)


@pytest.mark.parametrize("text", ["auto", "full"])
def test_a_window_may_be_left_to_the_method(text: str) -> None:
    assert parse_window(text) == text
    assert parse_window(text.upper()) == text


@pytest.mark.parametrize("window", NAMED_WINDOWS.values())
def test_a_windows_text_is_read_as_the_same_window(window: IntensityWindow) -> None:
    assert parse_window(str(window)) == window


@pytest.mark.parametrize(
    "text", ["", "liver", "40", "40,0", "40,-400", "nan,400", "40,inf", "1,2,3", "a,b", "40 400"]
)
def test_what_is_no_window_is_answered_with_the_names_and_the_form(text: str) -> None:
    with pytest.raises(ValueError, match="LEVEL,WIDTH") as caught:
        parse_window(text)
    assert str(caught.value).startswith(f"found {text!r}, expected auto, full, soft-tissue, ")
    assert all(name in str(caught.value) for name in NAMED_WINDOWS)


@pytest.mark.parametrize(
    ("level", "width"), [(0, 0), (0, -1), (math.nan, 1), (0, math.inf), (1e16, 3), (1e308, 1.7e308)]
)
def test_a_window_has_a_width(level: float, width: float) -> None:
    with pytest.raises(ValueError, match="expected finite numbers, the width above 0"):
        IntensityWindow.of_level(level, width)


def test_a_scaled_window_keeps_its_level() -> None:
    assert IntensityWindow(10, 20).scaled(0.5) == IntensityWindow(12.5, 17.5)
    assert IntensityWindow(10, 20).scaled(2) == IntensityWindow(5, 25)
    assert IntensityWindow(7, 7).scaled(2) == IntensityWindow(7, 7)  # of an image without contrast
