"""What the sections of a training configuration are made of."""

from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

Count = Annotated[int, Field(ge=1)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, le=1)]
Name = Annotated[str, Field(min_length=1)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]
Pixel = Annotated[int, Field(ge=0)]
Corners = tuple[Pixel, Pixel, Pixel, Pixel]


def _check_region(corners: Corners) -> Corners:
    top, left, bottom, right = corners
    if top >= bottom or left >= right:
        raise ValueError(": (y1, x1, y2, x2) with y1 < y2 and x1 < x2 is wanted")
    return corners


Region = Annotated[Corners, AfterValidator(_check_region)]  # (y1, x1, y2, x2) in pixels


class Section(BaseModel):
    """A section: its fields are the keys that there are, and each is of its type exactly.

    A validator's ValueError says first which key it means, as ``hub_model_id: is required ...``,
    or, where it means the section itself, begins with a colon.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)
