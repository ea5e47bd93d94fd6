"""What the sections of a training configuration are made of."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Count = Annotated[int, Field(ge=1)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, le=1)]
Name = Annotated[str, Field(min_length=1)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]


class Section(BaseModel):
    """A section: its fields are the keys that there are, and each is of its type exactly.

    A validator's ValueError says first which key it means, as ``hub_model_id: is required ...``,
    or, where it means the section itself, begins with a colon.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)
