"""What every table of config.toml has in common."""

from __future__ import annotations

from typing import Annotated
from zoneinfo import available_timezones

from pydantic import AfterValidator, BaseModel, ConfigDict, Field


def _known_zone(zone: str) -> str:
    if zone not in available_timezones():
        raise ValueError(f'"{zone}" is not an IANA time zone, for example "Europe/Berlin" or "UTC"')
    return zone


Share = Annotated[float, Field(ge=0, le=1)]
# More than 30 days is no wait and no limit that anybody means.
PositiveSeconds = Annotated[float, Field(gt=0, le=2_592_000)]
ZoneName = Annotated[str, AfterValidator(_known_zone)]


class Table(BaseModel):
    """A table of config.toml: frozen, closed, and strict about types (ints may stand for floats).

    `inf` and `nan` of TOML are no numbers here.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)
