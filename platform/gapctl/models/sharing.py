"""Encoders that share their blocks (arXiv 2406.17639): parameters that a model has once and uses twice."""

from collections.abc import Mapping

from open_clip.model import CLIP
from torch import empty_like, nn

from gapctl.models.two_images import SECOND, sees_images_twice
from gapctl.models.weight import Weights


def share_blocks(model: CLIP) -> None:
    """The second encoder's blocks, last norm and projection become the image encoder's last ones, as they are now."""
    own = model.visual.transformer.resblocks
    if sees_images_twice(model):
        second = model.get_submodule(SECOND)
        second.transformer.resblocks, second.ln_post, second.proj = own, model.visual.ln_post, model.visual.proj
        return
    text = model.transformer
    text.resblocks = nn.ModuleList(list(own)[len(own) - len(text.resblocks) :])
    model.ln_final = model.visual.ln_post
    model.text_projection = model.visual.proj


def second_names(model: nn.Module) -> dict[str, str]:
    """Each name under which a parameter is used once more, and the name that it has first."""
    first = {id(value): name for name, value in model.named_parameters()}
    every = model.named_parameters(remove_duplicate=False)
    return {name: first[id(value)] for name, value in every if first[id(value)] != name}


class SecondUses:
    """Gradients of parameters' second uses, apart from those of the first, which a backward pass overwrites."""

    def __init__(self, weights: Weights, names: Mapping[str, str]) -> None:
        """Takes the weights by their first names, and those names by the second."""
        used = {name: first for name, first in names.items() if first in weights}
        self._of_first = [(weights[first].grad, empty_like(weights[first].grad)) for first in used.values()]
        seconds = zip(used.items(), self._of_first, strict=True)
        self.weights: Weights = {name: weights[first]._replace(grad=grad) for (name, first), (_, grad) in seconds}

    def add(self) -> None:
        """To be called after both backward passes: a parameter's gradient is the sum over its uses."""
        for total, second in self._of_first:
            total.add_(second)
