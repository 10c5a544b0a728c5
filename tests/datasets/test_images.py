import io
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from cacheclip.datasets import images
from cacheclip.datasets.images import ImageError, read_rgb

RAMP = np.linspace(0, 65535, 32 * 32).round().reshape(32, 32)


def encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def pixels(source: bytes | Path) -> npt.NDArray[np.int64]:
    image = read_rgb(source)
    assert image.mode == "RGB"
    return np.asarray(image).astype(np.int64)


def noise(shape: tuple[int, ...] = (48, 40, 3)) -> Image.Image:
    return Image.fromarray(np.random.default_rng(7).integers(0, 256, shape, dtype=np.uint8))


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
@pytest.mark.parametrize("order", ["<u2", ">u2"])
def test_sixteen_bits_are_scaled_not_clipped(kind: str, order: str) -> None:
    data = encoded(Image.fromarray(RAMP.astype(order)), kind)
    assert Image.open(io.BytesIO(data)).mode.startswith("I")
    expected = np.rint(RAMP / 257)
    for channel in range(3):
        np.testing.assert_array_equal(pixels(data)[..., channel], expected)


def test_dark_sixteen_bits_stay_dark() -> None:
    grey = pixels(encoded(Image.fromarray((RAMP / 16).astype(np.uint16)), "PNG"))
    assert grey.max() == 16


def test_transparent_level_of_sixteen_bits_goes_onto_white() -> None:
    levels = np.array([[0, 514, 515, 65535]], np.uint16)
    data = encoded(Image.fromarray(levels), "PNG", transparency=514)
    assert pixels(data)[0, :, 0].tolist() == [0, 255, 2, 255]


@pytest.mark.parametrize("factor", [30000, -30000])
def test_thirty_two_bits_are_scaled_between_extremes(factor: int) -> None:
    grey = pixels(encoded(Image.fromarray((RAMP * factor).astype(np.int32)), "TIFF"))[..., 0]
    expected = np.rint(RAMP / 257) if factor > 0 else 255 - np.rint(RAMP / 257)
    assert np.abs(grey - expected).max() <= 1


def test_thirty_two_bits_with_sixteen_bit_levels_match_sixteen_bits() -> None:
    wide = pixels(encoded(Image.fromarray(RAMP.astype(np.int32)), "TIFF"))
    narrow = pixels(encoded(Image.fromarray(RAMP.astype(np.uint16)), "PNG"))
    np.testing.assert_array_equal(wide, narrow)


def test_fractions_are_scaled_and_nan_is_no_picture() -> None:
    fractions = (RAMP / 65535).astype(np.float32)
    np.testing.assert_array_equal(
        pixels(encoded(Image.fromarray(fractions), "TIFF"))[..., 0], np.rint(RAMP / 257)
    )
    fractions[3, 3] = np.nan
    with pytest.raises(ImageError, match="decode"):
        read_rgb(encoded(Image.fromarray(fractions), "TIFF"))


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_alpha_goes_onto_white(mode: str) -> None:
    image = Image.new("RGBA", (4, 1), (0, 0, 0, 255))
    image.putpixel((1, 0), (0, 0, 0, 0))
    image.putpixel((2, 0), (0, 0, 0, 51))
    assert list(pixels(encoded(image.convert(mode), "PNG"))[0, :, 0]) == [0, 255, 204, 0]


@pytest.mark.parametrize("transparency", [1, bytes([255, 0])])
def test_palette_transparency_goes_onto_white(transparency: int | bytes) -> None:
    image = Image.new("P", (2, 1))
    image.putpalette([200, 10, 20, 30, 40, 50])
    image.putpixel((1, 0), 1)
    data = encoded(image, "PNG", transparency=transparency)
    assert pixels(data)[0].tolist() == [[200, 10, 20], [255, 255, 255]]


def test_transparent_colour_of_an_opaque_mode_goes_onto_white() -> None:
    image = Image.new("RGB", (2, 1), (9, 8, 7))
    image.putpixel((1, 0), (1, 2, 3))
    data = encoded(image, "PNG", transparency=(1, 2, 3))
    assert pixels(data)[0].tolist() == [[9, 8, 7], [255, 255, 255]]


def test_other_modes_become_rgb() -> None:
    assert pixels(encoded(Image.new("L", (2, 2), 77), "PNG"))[0, 0].tolist() == [77, 77, 77]
    assert pixels(encoded(Image.new("1", (2, 2), 1), "PNG"))[0, 0].tolist() == [255, 255, 255]
    palette = encoded(Image.new("RGB", (2, 2), (12, 99, 180)).quantize(2), "GIF")
    assert np.abs(pixels(palette)[0, 0] - [12, 99, 180]).max() <= 4
    cmyk = pixels(encoded(Image.new("CMYK", (8, 8), (0, 255, 255, 0)), "JPEG"))
    assert np.abs(cmyk[0, 0] - [255, 0, 0]).max() <= 4


def test_orientation_tag_is_not_applied() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    data = encoded(Image.new("RGB", (12, 8)), "JPEG", exif=exif)
    assert read_rgb(data).size == (12, 8)


def test_path_and_bytes_give_the_same_picture(tmp_path: Path) -> None:
    data = encoded(noise(), "WEBP", lossless=True)
    (tmp_path / "called.jpg").write_bytes(data)
    np.testing.assert_array_equal(pixels(tmp_path / "called.jpg"), pixels(data))
    np.testing.assert_array_equal(pixels(data), np.asarray(noise()))


def test_arrays() -> None:
    grey = np.arange(12, dtype=np.uint8).reshape(3, 4)
    np.testing.assert_array_equal(np.asarray(read_rgb(grey))[..., 2], grey)
    colour = np.asarray(noise())
    np.testing.assert_array_equal(np.asarray(read_rgb(colour[::-1])), colour[::-1])
    odd: list[Any] = [
        grey.astype(np.float32),
        np.zeros((4, 4, 4), np.uint8),
        np.zeros((0, 4), np.uint8),
        np.zeros(4, np.uint8),
    ]
    for array in odd:
        with pytest.raises(ImageError, match="decode: array"):
            read_rgb(array)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF"])
@pytest.mark.parametrize("kept", [0.3, 0.6, 0.95])
def test_a_file_that_ends_early_is_truncated(kind: str, kept: float) -> None:
    image = noise().quantize(64) if kind == "GIF" else noise()
    data = encoded(image, kind)
    with pytest.raises(ImageError) as caught:
        read_rgb(data[: int(len(data) * kept)])
    assert caught.value.code == "truncated"


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
def test_a_compressed_tiff_that_lost_its_directory_is_truncated() -> None:
    data = encoded(noise(), "TIFF", compression="tiff_lzw")
    with pytest.raises(ImageError) as caught:
        read_rgb(data[: len(data) // 2])
    assert caught.value.code == "truncated"


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"", "truncated"),
        (b"just some text, saved as .jpg", "decode"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n", "decode"),
        (encoded(noise(), "PNG").replace(b"IDATx", b"IDAT\0"), "decode"),
        (encoded(noise(), "PNG")[:30], "truncated"),
        (encoded(noise(), "JPEG")[:30], "truncated"),
        (encoded(noise().quantize(64), "GIF")[:30], "truncated"),
    ],
)
def test_what_is_no_picture(data: bytes, code: str) -> None:
    with pytest.raises(ImageError) as caught:
        read_rgb(data)
    assert caught.value.code == code
    assert "0x" not in caught.value.text


def test_absent_and_unreadable_files(tmp_path: Path) -> None:
    (tmp_path / "dangling.jpg").symlink_to(tmp_path / "gone.jpg")
    for name in ("gone.jpg", "dangling.jpg"):
        with pytest.raises(ImageError) as caught:
            read_rgb(tmp_path / name)
        assert caught.value.code == "missing"
    with pytest.raises(ImageError) as caught:
        read_rgb(tmp_path)
    assert caught.value.code == "other"


def test_a_pixel_bomb_is_refused_by_its_header_without_a_warning() -> None:
    bomb = bytearray(encoded(Image.new("1", (8, 8)), "PNG"))
    bomb[16:24] = (30_000).to_bytes(4) * 2
    bomb[29:33] = zlib.crc32(bomb[12:29]).to_bytes(4)
    before = Image.MAX_IMAGE_PIXELS
    with pytest.raises(ImageError) as caught:  # a warning would be an error of its own
        read_rgb(bytes(bomb))
    assert caught.value.code == "toolarge"
    assert before == Image.MAX_IMAGE_PIXELS


@pytest.mark.parametrize("size", [(1, 201), (20_000, 1)])
def test_a_strip_is_refused_that_would_grow_to_gigabytes(size: tuple[int, int]) -> None:
    strip = Image.new("L", size)
    for source in (encoded(strip, "PNG"), np.asarray(strip)):
        with pytest.raises(ImageError, match=r"toolarge: .* a strip"):
            read_rgb(source)


def test_a_panorama_is_not_yet_a_strip() -> None:
    assert read_rgb(encoded(Image.new("L", (1600, 8)), "PNG")).size == (1600, 8)


def test_pillows_own_limit_gives_no_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    assert read_rgb(encoded(noise(), "PNG")).size == (40, 48)
    assert Image.MAX_IMAGE_PIXELS == 1000


def test_codes_are_those_of_the_store() -> None:
    from typing import get_args

    from cacheclip.store.schema import FAILURE_CODES

    assert set(get_args(images.Code)) <= set(FAILURE_CODES)
