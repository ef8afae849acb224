"""Values that several parts of a config hold."""

import re
from typing import Annotated

from pydantic import AfterValidator, Field

from infoconflict.config_errors import shown
from infoconflict.entries import once


def _repo(value: str) -> str:
    if not re.fullmatch(r"[\w-][\w.-]*(/[\w-][\w.-]*)?", value):
        raise ValueError(f"{shown(value)} is not a name on the hub; write owner/name")
    return value


Seed = Annotated[int, Field(ge=0, lt=2**32)]
Share = Annotated[float, Field(gt=0, le=1)]
InnerShare = Annotated[float, Field(gt=0, lt=1)]
Weight = Annotated[float, Field(ge=0, le=1)]
Weights = Annotated[list[Weight], Field(min_length=1), AfterValidator(once)]
Repo = Annotated[str, AfterValidator(_repo)]
Ids = Annotated[list[str], AfterValidator(once)]
SomeIds = Annotated[list[str], Field(min_length=1), AfterValidator(once)]
