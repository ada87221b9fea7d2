"""What clients say in JSON: bodies of requests, and the header X-Meta beside a frame."""

from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, FiniteFloat, ValidationError

MAX_META_BYTES = 16_384
"""Of the header X-Meta, at most."""

SHOWN_CHARACTERS = 80
"""Of what was found, in an error's text."""

BufferDtype = Literal[
    "bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"
]
"""Names of the dtypes that a target buffer may have."""


class MessageError(ValueError):
    """A message that isn't what is expected; the text says what was found."""


def _whole(value: Any) -> Any:
    """Takes 3.0 for 3, and leaves all else to the validation after it."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


Whole = Annotated[int, BeforeValidator(_whole), Field(ge=-(2**31), lt=2**31)]
Three = Field(min_length=3, max_length=3)

Voxel = Annotated[list[Whole], Three]
"""Indices z, y, x, which clients don't clip to the image."""

Bounds = Annotated[list[Annotated[list[Whole], Field(min_length=2, max_length=2)]], Three]
"""Half-open bounds along z, y, x, likewise."""


class Message(BaseModel):
    """What all messages have in common: strict types, and no complaint about unknown fields."""

    model_config = ConfigDict(strict=True, frozen=True)


class ImageProperties(Message):
    """What is known of an image.

    Attributes:
        spacing: the voxel's size in millimetres along z, y, x; None for cubes.
        window: the intensities that are told apart, as `gamt.Session` takes them: a name, or level
            and width. nnInteractive's own server has none.
    """

    spacing: Annotated[list[Annotated[FiniteFloat, Field(gt=0)]], Three] | None = None
    window: str | tuple[FiniteFloat, FiniteFloat] | None = None


class Image(Message):
    """The header beside an image; all that is missing is unknown."""

    image_properties: ImageProperties = ImageProperties()


class TargetBuffer(Message):
    """The array of the client that predictions are written to.

    Attributes:
        shape: voxels along z, y, x.
        dtype: its name.
    """

    shape: Annotated[list[Annotated[Whole, Field(gt=0)]], Three]
    dtype: BufferDtype


class AutoZoom(Message):
    """Whether nnInteractive is to zoom; means nothing here."""

    do_autozoom: bool


class Prompt(Message):
    """What all prompts have in common.

    Attributes:
        include_interaction: whether it marks the target, or else what is outside of it.
        run_prediction: whether to predict now, or with a later prompt.
    """

    include_interaction: bool
    run_prediction: bool = True


class PointPrompt(Prompt):
    """A voxel."""

    coordinates: Voxel


class BoxPrompt(Prompt):
    """A box."""

    bbox_coords: Bounds


class DrawnPrompt(Prompt):
    """The header beside a scribble or a lasso; None for a drawing of the whole volume."""

    interaction_bbox: Bounds | None = None


class InitialSegmentation(Message):
    """The header beside an initial segmentation."""

    run_prediction: bool = False


AnyMessage = TypeVar("AnyMessage", bound=Message)


def parse_message(kind: type[AnyMessage], text: bytes | bytearray, place: str) -> AnyMessage:
    """Returns the message in a JSON text.

    Args:
        kind: of message.
        text: from an untrusted source.
        place: where the text was found, for errors.

    Raises:
        MessageError: it isn't JSON, or not a message of that kind.
    """
    try:
        return kind.model_validate_json(text)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
        field = ".".join(str(part) for part in first["loc"])
        found = "" if first["type"] == "missing" else f", found {_shorten(first['input'])}"
        raise MessageError(f"{place}{field and f', {field}'}: {first['msg']}{found}") from error


def parse_meta(kind: type[AnyMessage], header: str | None) -> AnyMessage:
    """Returns the message in a request's header X-Meta; a header that is missing says nothing.

    Raises:
        MessageError: it is too long, isn't JSON, or not a message of that kind.
    """
    text = b"{}" if header is None else header.encode("latin-1")
    if len(text) > MAX_META_BYTES:
        raise MessageError(f"X-Meta: found {len(text)} bytes, expected {MAX_META_BYTES} at most")
    return parse_message(kind, text, "X-Meta")


def _shorten(found: object) -> str:
    text = repr(found)
    return text if len(text) <= SHOWN_CHARACTERS else f"{text[:SHOWN_CHARACTERS]}..."
