"""What a sweep's resources must satisfy: what shares a training, and what a dataset can make use of."""

from collections.abc import Iterator

from gapctl.spec.parts import parts_of, values_by_path
from gapctl.spec.problem import Problem
from gapctl.spec.sweep import SweepFile

ON_PAIRS = ("workers", "readers")


def resource_problems(spec: SweepFile) -> Iterator[Problem]:
    """Resources that no training of the sweep could use, and batches that workers cannot share evenly."""
    resources, dataset = spec.resources, spec.base.data.dataset
    if dataset == "mad":
        for name in ON_PAIRS:
            if (asked := getattr(resources, name)) > type(resources).model_fields[name].default:
                expected = (
                    f"expected {type(resources).model_fields[name].default} with dataset mad, whose models are small"
                )
                yield Problem(("resources", name), f"found {asked}; {expected}: resources.pack trains many at once")
    elif resources.pack > 1:
        text = f"found {resources.pack}; expected 1 with image-text pairs, whose models are trained one by one"
        yield Problem(("resources", "pack"), text)
    drawn = {} if spec.search is None else {path: domain.values for path, domain in spec.search.space.items()}
    batches = set({**values_by_path(parts_of(spec)), **drawn}.get("train.batch_size") or [spec.base.train.batch_size])
    if spec.base.parent is not None:
        batches.add(spec.base.parent.train.batch_size)
    parts = resources.workers * spec.base.train.micro_batches
    for batch in sorted(batch for batch in batches if isinstance(batch, int)):
        if batch % parts:
            text = (
                f"found {resources.workers}; a batch of {batch:,} cannot be dealt evenly to so many, in "
                f"{spec.base.train.micro_batches} micro_batches each"
            )
            yield Problem(("resources", "workers"), text)
