import json

import pytest

from gamt.server.messages import (
    BoxPrompt,
    DrawnPrompt,
    Image,
    InitialSegmentation,
    Message,
    MessageError,
    PointPrompt,
    TargetBuffer,
    parse_message,
    parse_meta,
)

POINT = {"coordinates": [2, 3, 4], "include_interaction": True}


def test_a_point_predicts_unless_it_says_otherwise() -> None:
    prompt = parse_message(PointPrompt, json.dumps(POINT).encode(), "body")
    assert prompt.coordinates == [2, 3, 4]
    assert prompt.include_interaction
    assert prompt.run_prediction


def test_an_initial_segmentation_predicts_only_if_it_says_so() -> None:
    assert not parse_meta(InitialSegmentation, "{}").run_prediction


def test_fields_of_newer_clients_are_ignored() -> None:
    body = POINT | {"override_capability_checks": False, "from the future": {}}
    assert parse_message(PointPrompt, json.dumps(body).encode(), "body").coordinates == [2, 3, 4]


def test_whole_numbers_may_be_written_as_decimals_and_lie_outside() -> None:
    body = POINT | {"coordinates": [2.0, -3, 1e4]}
    prompt = parse_message(PointPrompt, json.dumps(body).encode(), "body")
    assert prompt.coordinates == [2, -3, 10_000]
    assert all(type(index) is int for index in prompt.coordinates)


@pytest.mark.parametrize(
    ("kind", "text", "message"),
    [
        (PointPrompt, "", "body: Invalid JSON"),
        (PointPrompt, "[]", "body: Input should be an object"),
        (PointPrompt, "{", "body: Invalid JSON"),
        (PointPrompt, "[" * 50_000, "recursion limit"),
        (PointPrompt, '{"a":' * 10_000, "recursion limit"),
        (PointPrompt, '{"include_interaction": true}', "body, coordinates: Field required"),
        (PointPrompt, '{"coordinates": [1, 2, 3]}', "body, include_interaction: Field required"),
        (PointPrompt, '{"coordinates": [1, 2.5, 3], "include_interaction": true}', "found 2.5"),
        (PointPrompt, '{"coordinates": [1, NaN, 3], "include_interaction": true}', "found nan"),
        (PointPrompt, '{"coordinates": [1, 1e999, 3], "include_interaction": true}', "found inf"),
        (PointPrompt, '{"coordinates": [1, true, 3], "include_interaction": true}', "found True"),
        (PointPrompt, '{"coordinates": [1, "2", 3], "include_interaction": true}', "found '2'"),
        (PointPrompt, '{"coordinates": [1, null, 3], "include_interaction": true}', "found None"),
        (
            PointPrompt,
            '{"coordinates": [1, 2147483648, 3], "include_interaction": true}',
            "coordinates.1: Input should be less than 2147483648, found 2147483648",
        ),
        (PointPrompt, '{"coordinates": [1, 1e300, 3], "include_interaction": true}', "1e\\+300"),
        (PointPrompt, '{"coordinates": [1, 2], "include_interaction": true}', "at least 3"),
        (PointPrompt, '{"coordinates": [1, 2, 3, 4], "include_interaction": true}', "at most 3"),
        (PointPrompt, '{"coordinates": [1, 2, 3], "include_interaction": 1}', "valid boolean"),
        (BoxPrompt, '{"bbox_coords": [[1, 2], [3, 4]], "include_interaction": true}', "least 3"),
        (
            BoxPrompt,
            '{"bbox_coords": [[1, 2], [3, 4], [5]], "include_interaction": true}',
            "bbox_coords.2: List should have at least 2",
        ),
        (TargetBuffer, '{"shape": [1, 0, 3], "dtype": "uint8"}', "shape.1: .* greater than 0"),
        (TargetBuffer, '{"shape": [1, 2], "dtype": "uint8"}', "shape: .* at least 3"),
        (TargetBuffer, '{"shape": [1, 2, 3], "dtype": "float32"}', "'uint64', found 'float32'"),
        (TargetBuffer, '{"shape": [1, 2, 3], "dtype": "O"}', "found 'O'"),
    ],
)
def test_what_is_no_message_is_refused_with_what_was_found(
    kind: type[Message], text: str, message: str
) -> None:
    with pytest.raises(MessageError, match=message):
        parse_message(kind, text.encode(), "body")


@pytest.mark.parametrize(
    ("properties", "message"),
    [
        ({"spacing": [3.0, 1.0]}, "spacing: .* at least 3"),
        ({"spacing": [3.0, 1.0, 0.0]}, "spacing.2: .* greater than 0, found 0.0"),
        ({"spacing": [3.0, 1.0, float("nan")]}, "spacing.2: .* finite number, found nan"),
        ({"spacing": [3.0, 1.0, float("inf")]}, "spacing.2: .* finite number, found inf"),
        ({"spacing": "3,1,1"}, "spacing: .* valid array"),
    ],
)
def test_properties_of_an_image_that_make_no_sense_are_refused(
    properties: dict[str, object], message: str
) -> None:
    with pytest.raises(MessageError, match=f"X-Meta, image_properties.{message}"):
        parse_meta(Image, json.dumps({"image_properties": properties}))


def test_an_image_needs_no_properties() -> None:
    for header in (None, "{}", '{"image_properties": {}}'):
        assert parse_meta(Image, header).image_properties.spacing is None


def test_a_drawing_without_bounds_is_of_the_whole_volume() -> None:
    assert parse_meta(DrawnPrompt, '{"include_interaction": false}').interaction_bbox is None


def test_a_long_header_is_refused_unread() -> None:
    with pytest.raises(MessageError, match="X-Meta: found 20002 bytes, expected 16384 at most"):
        parse_meta(Image, "{" + 20_000 * " " + "}")


def test_an_error_shows_no_more_than_the_beginning_of_what_was_found() -> None:
    body = POINT | {"coordinates": "x" * 10_000}
    with pytest.raises(MessageError) as caught:
        parse_message(PointPrompt, json.dumps(body).encode(), "body")
    assert len(str(caught.value)) < 200
