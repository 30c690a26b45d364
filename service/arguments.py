"""What the options of the service's commands have in common."""

from __future__ import annotations

from pydantic import BaseModel
from pydantic_settings import SettingsConfigDict

__all__ = ["Arguments"]


class Arguments(BaseModel):
    """Frozen, unknown keys are errors, and they come from the command line alone."""

    # By this prefix nothing is read from the environment, where a plain `url` or `out` may mean anything.
    model_config = SettingsConfigDict(frozen=True, extra="forbid", env_prefix="ROBOMASK_OPTION_")
