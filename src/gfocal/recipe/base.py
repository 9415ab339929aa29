"""What all sections of a recipe share: how values are typed, and what is refused."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

# Strict: "true" is no number of epochs.
PositiveInt = Annotated[int, Field(gt=0, strict=True)]
Natural = Annotated[int, Field(ge=0, strict=True)]
Pixels = Annotated[int, Field(ge=32, strict=True)]
Fraction = Annotated[float, Field(ge=0, le=1)]
Share = Annotated[float, Field(gt=0, le=1)]
Decay = Annotated[float, Field(ge=0, lt=1)]
Seed = Annotated[int, Field(ge=0, lt=2**63, strict=True)]
NotNegative = Annotated[float, Field(ge=0)]


class Section(BaseModel):
    """Unknown keys and loosely typed values are refused; a recipe does not change once read."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True, allow_inf_nan=False)
