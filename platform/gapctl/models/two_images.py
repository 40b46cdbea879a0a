"""A model whose second side is images too: an image encoder of its own in the text encoder's place."""

from typing import Final

from open_clip.model import CLIP

SECOND: Final = "second"
"""What such a model calls its second image encoder."""
_OF_TEXTS: Final = ("transformer", "token_embedding", "positional_embedding", "ln_final", "text_projection")


def with_second_images(model: CLIP, other: CLIP) -> None:
    """The model gives up its text encoder for the image encoder of another one."""
    for name in _OF_TEXTS:
        delattr(model, name)
    model.add_module(SECOND, other.visual)


def sees_images_twice(model: CLIP) -> bool:
    """Whether its second side is images."""
    return any(name == SECOND for name, _ in model.named_children())
