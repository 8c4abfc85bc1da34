"""What the API answers, as its OpenAPI description has it."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, Field

from ..models.config import Task

Share = Annotated[float, Field(ge=0, le=1)]
Colour = Annotated[list[int], Field(min_length=3, max_length=3, description="red, green and blue, 0 to 255")]
Sides = Annotated[list[int], Field(min_length=2, max_length=2, description="height and width in pixels")]
Png = Annotated[str | None, Field(json_schema_extra={"contentEncoding": "base64", "contentMediaType": "image/png"})]


class Problem(BaseModel):
    """Why there is no answer."""

    detail: str


class Answer(BaseModel):
    """What all answers have."""

    model: str
    milliseconds: float = Field(description="from the image's arrival to the answer, waiting included")
    picture: Png = Field(None, description="with picture=true: the image with what was found, a PNG in base64")


class ClassesAnswer(Answer):
    """What those have whose parts are of one class each, without more."""

    labels: list[int] = Field(description="class indices, from 0")
    names: list[str] = Field(description="their names")


class ClassificationAnswer(ClassesAnswer):
    """The likeliest classes, best first."""

    scores: list[Share]
    present: list[str] | None = Field(None, description="of a model for several: the classes that the image has")


class Mask(BaseModel):
    """An object's pixels as COCO's compressed run lengths."""

    size: Sides
    counts: str


class DetectionAnswer(ClassesAnswer):
    """The objects, best first, in the image's own pixels."""

    image_size: Sides
    score_threshold: Share = Field(description="objects of a lower score are left out")
    boxes: list[Annotated[list[float], Field(min_length=4, max_length=4, description="left, top, right, bottom")]]
    scores: list[Share]
    masks: list[Mask] | None = Field(None, description="one for each object, where the model has masks")
    colours: list[Colour] | None = Field(None, description="with picture=true: of each object in it, by its class")


class SegmentationAnswer(ClassesAnswer):
    """The classes that the image has, the largest first."""

    image_size: Sides
    shares: list[Share] = Field(description="the part of the image that each covers")
    colours: list[Colour] | None = Field(None, description="with picture=true: of each class")
    label_map: Png = Field(None, description="with picture=true: a PNG whose values are class indices, in base64")


class Segment(BaseModel):
    """A thing, or all of a class of stuff."""

    id: int = Field(description="from 1")
    label: int = Field(description="class index, from 0")
    name: str = Field(description="the class's")
    score: Share
    area: int = Field(description="pixels")
    is_thing: bool


class PanopticAnswer(Answer):
    """The segments, of which each pixel is in one or in none."""

    image_size: Sides
    segments: list[Segment]
    colours: list[Colour] | None = Field(None, description="with picture=true: of each segment in it")
    segment_ids: Png = Field(
        None,
        description="with picture=true: COCO's panoptic PNG in base64, red + 256 green + 65,536 blue being the pixel's "
        "segment's id, and 0 none",
    )


class ModelInfo(BaseModel):
    """A model of this server."""

    name: str
    task: Task
    classes: list[str] | None
    max_pixels: int | None = Field(description="an image with more is refused")
    samples: list[str] = Field(description="addresses of sample images")


class Models(BaseModel):
    """The models, the one first that answers where none is named, and what a request may be."""

    models: list[ModelInfo]
    max_bytes: int
    score_threshold: Share


class Health(BaseModel):
    """Requests under way, by model."""

    status: str
    busy: dict[str, int]


_REASONS = {
    400: "it is no image that can be used: damaged, of no known format, of too many pixels",
    403: "a page of another origin sent it",
    404: "there is no such model",
    408: "the image arrived too slowly",
    413: "the file has too many bytes",
    415: "it is a form; send the file's bytes as the body",
    421: "the Host is not a name of this server",
    422: "a parameter is not possible",
    500: "the model failed; the server lives on",
    503: "too many requests are under way; Retry-After says when to try again",
    504: "there was no answer in time",
}
PROBLEMS: dict[int | str, dict[str, Any]] = {
    status: {"model": Problem, "description": reason} for status, reason in _REASONS.items()
}
BODY = {
    "requestBody": {
        "required": True,
        "description": "the bytes of an image file, of any format that Pillow reads",
        "content": {"image/*": {"schema": {"type": "string", "format": "binary"}}},
    }
}
