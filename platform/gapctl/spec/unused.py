"""Values of `base` that no training of the sweep uses, so that whoever set them waits for an effect in vain."""

from collections.abc import Iterator

from gapctl.spec.parts import Parts, values_by_path
from gapctl.spec.problem import Problem


def unused(parts: Parts) -> Iterator[Problem]:
    """A learning rate of a temperature that nothing learns."""
    if parts.base is None or parts.base.temperature.lr is None:
        return
    base = parts.base
    modes = values_by_path(parts).get("temperature.mode") or [base.temperature.mode]
    before = [] if base.parent is None else [base.parent.temperature.mode]
    if "learned" not in (*modes, *before):
        text = (
            f"found {base.temperature.lr:g}, which no training uses; expected temperature.mode learned in one of them"
        )
        yield Problem(("base", "temperature", "lr"), text)
