"""What all models of a sweep file share, and how their checks say which key they are about."""

from pydantic import BaseModel, ConfigDict


class Frozen(BaseModel):
    """Immutable; a misspelt key is an error, not a silent default, and true or "5" is no number."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True, strict=True, allow_inf_nan=False)


class WrongValueError(ValueError):
    """What a check of a whole model finds wrong with one of its keys, or with one below it by its dotted path."""

    def __init__(self, key: str, text: str) -> None:
        super().__init__(text)
        self.key = key
