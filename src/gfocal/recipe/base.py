"""What all sections of a recipe share: how values are typed, and what is refused."""

from __future__ import annotations

import math
from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

# Strict: "true" is no number of epochs. A recipe may be a stranger's: what takes memory or processes has an end.
PositiveInt = Annotated[int, Field(gt=0, strict=True)]
Natural = Annotated[int, Field(ge=0, strict=True)]
Pixels = Annotated[int, Field(ge=32, le=2**16, strict=True)]
Channels = Annotated[int, Field(gt=0, le=8192, strict=True)]
Layers = Annotated[int, Field(gt=0, le=128, strict=True)]
Bins = Annotated[int, Field(gt=0, le=4096, strict=True)]
Few = Annotated[int, Field(gt=0, le=64, strict=True)]
Factor = Annotated[float, Field(gt=0, le=1000)]
Fraction = Annotated[float, Field(ge=0, le=1)]
Share = Annotated[float, Field(gt=0, le=1)]
Decay = Annotated[float, Field(ge=0, lt=1)]
Seed = Annotated[int, Field(ge=0, lt=2**63, strict=True)]
NotNegative = Annotated[float, Field(ge=0)]


def _checked_range(value: object) -> object:
    # One message instead of one for each form.
    if value == "type":
        return value
    ends = value if isinstance(value, list | tuple) else ()
    numbers = [end for end in ends if isinstance(end, int | float) and not isinstance(end, bool) and math.isfinite(end)]
    if len(ends) != 2 or len(numbers) != 2 or not numbers[0] < numbers[1]:
        raise ValueError("must be type, or [low, high] with low < high, for example [0, 4095]")
    return value


ValueRange = Annotated[Literal["type"] | tuple[float, float], BeforeValidator(_checked_range)]


class Section(BaseModel):
    """Unknown keys and loosely typed values are refused; a recipe does not change once read."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True, allow_inf_nan=False)
