"""What all models of a sweep file share."""

from pydantic import BaseModel, ConfigDict


class Frozen(BaseModel):
    """Immutable; a misspelt key is an error, not a silent default, and true or "5" is no number."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True, strict=True, allow_inf_nan=False)
