"""Pictures and captions of pairs: open_clip's crops, pixels and tokens, and nothing that hangs or fills the memory."""

import io
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from open_clip.tokenizer import SimpleTokenizer
from open_clip.transform import image_transform
from PIL import Image
from torchvision.transforms import RandomResizedCrop
from torchvision.transforms import functional as transforms

from gapctl.data.image_text import image as decode
from gapctl.data.image_text.image import CropBox, ImageMismatch, crop_and_resize, crop_centre, sample_crop_boxes
from gapctl.data.image_text.tokens import ClipTokenizer, get_clip_tokenizer

SCALE = (0.9, 1.0)


def smooth(width: int, height: int, grain: int = 12) -> Image.Image:
    """A picture with soft edges, as photographs have, about so many pixels apart."""
    draws = np.random.Generator(np.random.Philox(0))
    small = draws.integers(0, 256, (max(2, height // grain), max(2, width // grain), 3)).astype(np.uint8)
    return Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC)


def stored(picture: Image.Image, form: str = "JPEG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, format=form, **options)
    return buffer.getvalue()


def boxes(width: int, height: int, count: int, scale: tuple[float, float] = SCALE) -> NDArray[np.float64]:
    sizes = np.tile(np.array([width, height], dtype=np.int32), (count, 1))
    return np.array(sample_crop_boxes(sizes, scale, 0, 0, np.arange(count)), dtype=np.float64)


@settings(max_examples=50)
@given(st.integers(2, 3000), st.integers(2, 3000), st.sampled_from([(0.9, 1.0), (0.08, 1.0), (0.001, 0.002)]))
def test_a_crop_lies_in_the_picture(width: int, height: int, scale: tuple[float, float]) -> None:
    for left, top, right, bottom in boxes(width, height, 20, scale):
        assert 0 <= left < right <= width
        assert 0 <= top < bottom <= height


@pytest.mark.parametrize(("width", "height", "scale"), [(300, 256, SCALE), (256, 640, SCALE), (200, 300, (0.08, 1.0))])
def test_crops_are_distributed_as_torchvisions(width: int, height: int, scale: tuple[float, float]) -> None:
    mine, blank = boxes(width, height, 3000, scale), torch.empty(3, height, width)
    torch.manual_seed(0)
    drawn = [RandomResizedCrop.get_params(blank, list(scale), [3 / 4, 4 / 3]) for _ in range(3000)]
    theirs = np.array([(left, top, left + wide, top + high) for top, left, high, wide in drawn], dtype=np.float64)

    spread = np.maximum(theirs.std(axis=0), 0.5)
    assert np.abs(mine.mean(axis=0) - theirs.mean(axis=0)).max() < 0.12 * spread.max()
    assert np.allclose(mine.std(axis=0), theirs.std(axis=0), rtol=0.08, atol=0.3)


def test_a_crop_depends_on_sample_seed_and_epoch_alone() -> None:
    sizes = np.tile(np.array([300, 256], dtype=np.int32), (9, 1))
    whole = sample_crop_boxes(sizes, SCALE, 1, 2, np.arange(9))

    assert sample_crop_boxes(sizes[4:6], SCALE, 1, 2, np.arange(4, 6)) == whole[4:6]
    assert sample_crop_boxes(sizes, SCALE, 1, 3, np.arange(9)) != whole
    assert sample_crop_boxes(sizes, SCALE, 2, 2, np.arange(9)) != whole


@pytest.mark.parametrize("side", [224, 64, 300])
def test_a_crop_has_the_pixels_of_open_clips(side: int) -> None:
    content, box = stored(smooth(340, 256), quality=95), CropBox(7, 9, 322, 250)
    picture = Image.open(io.BytesIO(content)).convert("RGB")
    expected = transforms.resized_crop(
        picture, box.top, box.left, box.bottom - box.top, box.right - box.left, [side, side], _bicubic()
    )

    assert np.abs(crop_and_resize(content, (340, 256), box, side) - np.asarray(expected, dtype=int)).max() <= 2


@pytest.mark.parametrize(
    ("width", "height", "most"), [(340, 256, 3), (256, 300, 3), (64, 64, 3), (700, 512, 6), (1300, 1030, 6)]
)
def test_an_evaluation_sees_what_open_clips_does(width: int, height: int, most: int) -> None:
    content = stored(smooth(width, height, grain=max(12, width // 25)), quality=95)
    evaluation = image_transform(64, is_train=False, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
    expected = evaluation(Image.open(io.BytesIO(content))).permute(1, 2, 0).numpy() * 255

    difference = np.abs(crop_centre(content, (width, height), 64) - expected)
    assert difference.mean() < 1
    assert difference.max() < most, "more than the scaled decoding of larger JPEGs explains"


def _bicubic() -> Any:
    from torchvision.transforms import InterpolationMode

    return InterpolationMode.BICUBIC


def test_a_large_jpeg_is_decoded_small_and_looks_the_same() -> None:
    picture = smooth(1600, 1200, grain=100)
    small = crop_and_resize(stored(picture, quality=95), (1600, 1200), CropBox(100, 50, 1500, 1150), 64)
    expected = np.asarray(picture.crop((100, 50, 1500, 1150)).resize((64, 64), Image.Resampling.BICUBIC), dtype=int)

    assert np.abs(small - expected).mean() < 2


def test_pixels_are_the_same_without_torchvisions_decoder(monkeypatch: pytest.MonkeyPatch) -> None:
    content, box = stored(smooth(340, 256), quality=90), CropBox(0, 0, 250, 250)
    fast = crop_and_resize(content, (340, 256), box, 224)
    monkeypatch.setattr(decode, "_find_jpeg_decoder", lambda: None)

    assert np.array_equal(crop_and_resize(content, (340, 256), box, 224), fast)


@pytest.mark.parametrize("side", [224, 64, 2])
def test_pixels_lie_as_batches_store_them_and_are_those_of_planes(side: int) -> None:
    picture_HWC = np.asarray(smooth(340, 256))
    planes_1CHW = torch.from_numpy(picture_HWC.copy()).permute(2, 0, 1).contiguous()[None]
    expected_1CHW = torch.ops.aten._upsample_bicubic2d_aa(planes_1CHW, [side, side], False)
    resized_HWC = decode._resize_pixels(picture_HWC, (side, side))

    assert np.array_equal(resized_HWC, expected_1CHW[0].permute(1, 2, 0).numpy())
    assert resized_HWC.flags.c_contiguous, "to bring colours last by a copy takes longer than to resize"


@pytest.mark.parametrize(
    ("mode", "form", "options"),
    [("L", "JPEG", {}), ("L", "PNG", {}), ("RGB", "WEBP", {"lossless": True}), ("RGB", "PNG", {}), ("1", "PNG", {})],
)
def test_every_form_gives_three_colours(mode: str, form: str, options: dict[str, Any]) -> None:
    picture = smooth(80, 60).convert(mode)
    read = crop_and_resize(stored(picture, form, **options), (80, 60), CropBox(0, 0, 60, 60), 60)

    assert np.abs(read - np.asarray(picture.convert("RGB").crop((0, 0, 60, 60)), dtype=int)).mean() < 3


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_what_is_transparent_shows_white(mode: str) -> None:
    picture = Image.new("RGBA", (40, 40), (200, 0, 0, 0))
    picture.paste((0, 0, 100, 255), (0, 0, 20, 40))
    content = stored(picture.convert(mode), "PNG")
    read = crop_and_resize(content, (40, 40), CropBox(0, 0, 40, 40), 40)

    assert read[:, 25:].min() >= 250
    assert read[:, :15, 2].max() < 140
    assert read[:, :15, 0].max() < 30


def test_a_strip_is_cut_before_it_is_resized() -> None:
    content = stored(smooth(6000, 3), "PNG")

    assert crop_centre(content, (6000, 3), 224).shape == (224, 224, 3)
    assert crop_and_resize(content, (6000, 3), CropBox(3000, 0, 3004, 3), 224).shape == (224, 224, 3)


def test_what_the_index_did_not_see_is_not_decoded() -> None:
    small = stored(smooth(60, 60))
    for content in (small, b"<html>", b"", stored(smooth(9000, 9), "PNG"), stored(smooth(60, 60).convert("CMYK"))):
        size = (60, 60) if content is not small else (60, 61)
        with pytest.raises(ImageMismatch):
            crop_and_resize(content, size, CropBox(0, 0, 50, 50), 32)


def test_a_picture_that_is_cut_short_is_unreadable() -> None:
    for form in ("JPEG", "PNG", "WEBP"):
        content = stored(smooth(300, 300), form)
        with pytest.raises(ValueError, match="unreadable image"):
            crop_and_resize(content[: len(content) // 2], (300, 300), CropBox(0, 0, 200, 200), 32)


CAPTIONS = (
    "a photo of a cat",
    "A Man's dog; it's  running, isn't it?! 1234 €5",
    "",
    "   ",
    "word " * 200,
    "é̶ ﬁne “quotes” naïve Ünïcode 漢字 emoji 🎉🏽 zero\u200bwidth",
    "&lt;b&gt; AT&amp;T &amp;amp;",
    "schÃ¶n",
    "tab\tnew\nline\r\nreturn\x00nul\x1besc",
    "<start_of_text> inside <end_of_text>",
    "supercalifragilisticexpialidocious-" * 20,
)


@pytest.mark.parametrize("context", [77, 16])
def test_captions_become_open_clips_tokens(context: int) -> None:
    expected = SimpleTokenizer(context_length=context)(list(CAPTIONS)).numpy()

    assert np.array_equal(ClipTokenizer(context)(CAPTIONS), expected)


THEIRS = SimpleTokenizer()


@given(st.text(max_size=80) | st.text(st.characters(max_codepoint=127), max_size=80))
def test_any_caption_does(caption: str) -> None:
    assert np.array_equal(get_clip_tokenizer(77)([caption]), THEIRS([caption]).numpy())


def test_words_are_not_remembered_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    from gapctl.data.image_text import tokens as module

    monkeypatch.setattr(module, "MAX_CACHED_WORDS", 3)
    tokens = ClipTokenizer(77)
    captions = ["one two three", "four five six", "one two seven"]

    assert np.array_equal(tokens(captions), THEIRS(captions).numpy())
    assert len(tokens._ids) <= 3
