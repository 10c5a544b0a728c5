"""Pictures as people have them: turned by a tag, of newer formats, of few bits in sixteen."""

import io
import os
import socket
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image, features

from cacheclip.datasets import images, levels
from cacheclip.datasets.images import AS_STORED, ImageError, Reading, greatest_level, read_rgb

UPRIGHT = Reading(upright=True)
TWELVE = Reading(white_level=4095)
HEIC = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(200)
needs_avif = pytest.mark.skipif(not features.check("avif"), reason="Pillow without AVIF")


def encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def pixels(source: bytes | Path, reading: Reading = AS_STORED) -> npt.NDArray[np.int64]:
    return np.asarray(read_rgb(source, reading)).astype(np.int64)


def corners() -> Image.Image:
    """12 x 8, red in the upper left corner, green in the upper right one."""
    grid = np.full((8, 12, 3), 128, np.uint8)
    grid[:4, :6] = (255, 0, 0)
    grid[:4, 6:] = (0, 255, 0)
    return Image.fromarray(grid)


def tagged(orientation: Any, kind: str = "PNG", **options: Any) -> bytes:
    """The corners as a camera stores them that was held so that the tag turns them upright."""
    back = {
        **{2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180},
        **{4: Image.Transpose.FLIP_TOP_BOTTOM, 5: Image.Transpose.TRANSPOSE},
        **{6: Image.Transpose.ROTATE_90, 7: Image.Transpose.TRANSVERSE},
        8: Image.Transpose.ROTATE_270,
    }
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = corners().transpose(back[orientation]) if orientation in back else corners()
    return encoded(stored, kind, exif=exif, **options)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["PNG", "WEBP", "JPEG", "TIFF"])
def test_a_tagged_picture_is_turned_upright_where_asked(orientation: int, kind: str) -> None:
    options = {"lossless": True} if kind == "WEBP" else {}
    turned = pixels(tagged(orientation, kind, **options), UPRIGHT)
    assert turned.shape == (8, 12, 3)
    tolerance = 60 if kind == "JPEG" else 0
    assert np.abs(turned[1, 1] - [255, 0, 0]).max() <= tolerance
    assert np.abs(turned[1, 10] - [0, 255, 0]).max() <= tolerance


def test_as_stored_no_tag_turns_a_picture() -> None:
    assert read_rgb(tagged(6), AS_STORED).size == (8, 12)
    assert read_rgb(tagged(6)).size == (8, 12)


@needs_avif
@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_an_avif_is_read_and_turned(orientation: int) -> None:
    data = tagged(orientation, "AVIF", quality=100, subsampling="4:4:4")
    turned = pixels(data, UPRIGHT)
    assert turned.shape == (8, 12, 3)
    assert np.abs(turned[1, 1] - [255, 0, 0]).max() <= 30


@needs_avif
@pytest.mark.parametrize("kept", [0.3, 0.6, 0.95])
def test_an_avif_that_ends_early_is_truncated(kept: float) -> None:
    grid = np.random.default_rng(1).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    data = encoded(Image.fromarray(grid), "AVIF")
    assert read_rgb(data).size == (64, 64)
    with pytest.raises(ImageError, match="truncated"):
        read_rgb(data[: int(len(data) * kept)])


@pytest.mark.parametrize("orientation", [0, 9, 600])
def test_a_tag_that_means_nothing_turns_nothing(orientation: int) -> None:
    assert pixels(tagged(orientation), UPRIGHT).tolist() == np.asarray(corners()).tolist()


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
@pytest.mark.parametrize(
    "exif",
    [
        b"Exif\0\0",
        b"Exif\0\0no tags at all",
        b"Exif\0\0II*\0\xff\xff\xff\x7f",
        b"Exif\0\0MM\0*\0\0\0\x08\0\x40\x01\x12\0\x03",
        b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x02\xff\xff\xff\xff\0\0\0\x06\0\0\0\0",
        bytes(range(64)),
    ],
)
def test_broken_tags_fail_no_picture(exif: bytes) -> None:
    for kind in ("JPEG", "PNG", "WEBP"):
        data = encoded(corners(), kind, exif=exif)
        assert read_rgb(data, UPRIGHT).size == (12, 8)


def test_broken_tags_are_no_news_on_stderr(tmp_path: Path) -> None:
    exif = b"Exif\0\0MM\0*\0\0\0\x08\0\x40\x01\x12\0\x03"
    (tmp_path / "a.jpg").write_bytes(encoded(corners(), "JPEG", exif=exif))
    code = (
        "import sys; from pathlib import Path\n"
        "from cacheclip.datasets.images import Reading, read_rgb\n"
        "print(read_rgb(Path(sys.argv[1]), Reading(upright=True)).size)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "a.jpg")], capture_output=True, text=True
    )
    assert (done.stdout.strip(), done.stderr) == ("(12, 8)", "")


def animated(kind: str) -> bytes:
    black = [Image.new("RGB", corners().size)] * 2
    options = {"lossless": True} if kind == "WEBP" else {}
    return encoded(corners(), kind, save_all=True, append_images=black, duration=50, **options)


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG"])
def test_the_first_frame_of_an_animation_counts(kind: str) -> None:
    assert pixels(animated(kind))[1, 1].tolist() == [255, 0, 0]


def test_the_first_picture_of_a_stereo_pair_counts() -> None:
    pair = encoded(
        corners(), "MPO", save_all=True, append_images=[Image.new("RGB", corners().size)]
    )
    assert np.abs(pixels(pair)[1, 1] - [255, 0, 0]).max() <= 60


def test_a_file_is_what_it_holds_and_not_what_it_is_called(tmp_path: Path) -> None:
    for name, kind in (("a.png", "JPEG"), ("b.Jpg", "WEBP"), ("c.jfif", "GIF")):
        (tmp_path / name).write_bytes(encoded(corners(), kind))
        assert read_rgb(tmp_path / name).size == (12, 8)


def test_heic_without_its_extra_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(images, "_register_heif", lambda: False)
    with pytest.raises(ImageError, match=r"decode: HEIC, .*pip install 'cacheclip\[heic\]'"):
        read_rgb(HEIC)


def test_heic_with_its_extra(tmp_path: Path) -> None:
    pillow_heif = pytest.importorskip("pillow_heif")
    pillow_heif.register_heif_opener()
    data = encoded(corners().resize((96, 64)), "HEIF", quality=95)
    (tmp_path / "IMG_1.HEIC").write_bytes(data)
    read = pixels(tmp_path / "IMG_1.HEIC", UPRIGHT)
    assert read.shape == (64, 96, 3)
    assert np.abs(read[10, 10] - [255, 0, 0]).max() <= 30
    with pytest.raises(ImageError, match="decode"):
        read_rgb(HEIC)


def sixteen_bit_png(colours: npt.NDArray[np.uint16]) -> bytes:
    """A PNG of levels [H,W,3 or 4], which Pillow cannot write."""

    def chunk(name: bytes, content: bytes) -> bytes:
        sum_ = zlib.crc32(name + content)
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", sum_)

    height, width, channels = colours.shape
    kind = {3: 2, 4: 6}[channels]
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in colours)
    header = struct.pack(">IIBBBBB", width, height, 16, kind, 0, 0, 0)
    parts = [(b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in parts)


def sixteen_bit_tiff(colours: npt.NDArray[np.uint16], order: str, deflate: bool) -> bytes:
    """A TIFF of levels [H,W,3], which Pillow cannot write."""
    height, width, channels = colours.shape
    data = colours.astype(f"{order}u2").tobytes()
    data = zlib.compress(data) if deflate else data
    tags = [
        *[(256, 3, width), (257, 3, height), (258, 3, None), (259, 3, 8 if deflate else 1)],
        *[(262, 3, 2), (273, 4, None), (277, 3, channels), (278, 3, height)],
        *[(279, 4, len(data)), (284, 3, 1)],
    ]
    after = 8 + 2 + 12 * len(tags) + 4
    out = b"II*\0" if order == "<" else b"MM\0*"
    out += struct.pack(f"{order}IH", 8, len(tags))
    for tag, kind, value in tags:
        if tag == 258:
            out += struct.pack(f"{order}HHII", tag, kind, channels, after)
        elif kind == 4:
            out += struct.pack(f"{order}HHII", tag, kind, 1, after + 6 if value is None else value)
        else:
            out += struct.pack(f"{order}HHIHH", tag, kind, 1, value, 0)
    return out + struct.pack(f"{order}I", 0) + struct.pack(f"{order}3H", 16, 16, 16) + data


COLOURS = np.random.default_rng(3).integers(0, 4096, (9, 7, 3)).astype(np.uint16)
WIDE: dict[str, Callable[[], bytes]] = {
    "png": lambda: sixteen_bit_png(COLOURS),
    "tiff": lambda: sixteen_bit_tiff(COLOURS, "<", False),
    "tiff, high byte first": lambda: sixteen_bit_tiff(COLOURS, ">", False),
    "tiff, deflated": lambda: sixteen_bit_tiff(COLOURS, "<", True),
    "tiff, deflated, high byte first": lambda: sixteen_bit_tiff(COLOURS, ">", True),
}


@pytest.mark.parametrize("name", WIDE)
def test_a_white_level_stretches_colours_of_twelve_bits(name: str) -> None:
    data = WIDE[name]()
    assert pixels(data).max() == 15  # nearly black without
    np.testing.assert_array_equal(pixels(data, TWELVE), np.rint(COLOURS * (255 / 4095)))
    assert greatest_level(data) == COLOURS.max()


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_a_white_level_stretches_greys_of_twelve_bits_and_cuts_what_is_above(kind: str) -> None:
    grey = np.array([[0, 100, 2048, 4095, 5000]], np.uint16)
    data = encoded(Image.fromarray(grey), kind)
    assert pixels(data, TWELVE)[0, :, 1].tolist() == [0, 6, 128, 255, 255]
    assert greatest_level(data) == 5000


def test_alpha_is_not_stretched() -> None:
    opaque = np.full((*COLOURS.shape[:2], 1), 65535, np.uint16)
    data = sixteen_bit_png(np.concatenate([COLOURS, opaque], axis=2))
    np.testing.assert_array_equal(pixels(data, TWELVE), np.rint(COLOURS * (255 / 4095)))
    assert greatest_level(data) == COLOURS.max()


def test_a_white_level_leaves_eight_bits_and_fractions_alone() -> None:
    fractions = np.linspace(0, 1, 96, dtype=np.float32).reshape(8, 12)
    for data in (encoded(corners(), "PNG"), encoded(Image.fromarray(fractions), "TIFF")):
        np.testing.assert_array_equal(pixels(data, TWELVE), pixels(data))
        assert greatest_level(data) is None


def test_a_stretched_picture_is_turned_too() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    data = encoded(Image.fromarray(np.full((4, 9), 4095, np.uint16)), "PNG", exif=exif)
    stretched = read_rgb(data, Reading(upright=True, white_level=4095))
    assert stretched.size == (4, 9)
    assert np.asarray(stretched).min() == 255


def test_of_what_is_no_picture_there_is_no_greatest_level(tmp_path: Path) -> None:
    assert greatest_level(b"nothing") is None
    assert greatest_level(tmp_path / "gone.png") is None
    assert greatest_level(np.zeros((2, 2), np.uint8)) is None


@pytest.mark.parametrize(
    ("greatest", "white"),
    [(3, 255), (700, 1023), (1023, 1023), (4000, 4095), (16383, 16383), (16384, None)],
)
def test_the_white_level_is_that_of_the_fewest_bits(greatest: int, white: int | None) -> None:
    assert levels.white_level(greatest) == white


def test_only_regular_files_are_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.jpg")
    (tmp_path / "link.jpg").symlink_to(tmp_path / "pipe.jpg")
    (tmp_path / "zero.jpg").symlink_to("/dev/zero")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "socket.jpg"))
    for name in ("pipe.jpg", "link.jpg", "zero.jpg", "socket.jpg"):
        with pytest.raises(ImageError, match="other: not a regular file"):
            read_rgb(tmp_path / name)


def test_a_file_beyond_the_limit_is_not_read(tmp_path: Path) -> None:
    with (tmp_path / "sparse.png").open("wb") as file:
        file.truncate(images.MAX_BYTES + 1)
    with pytest.raises(ImageError, match=r"toolarge: 1,073,741,825 bytes, limit 1,073,741,824"):
        read_rgb(tmp_path / "sparse.png")


def test_names_that_no_file_can_have_are_failures_too() -> None:
    for name in ("a\0b.jpg", "x" * 5000 + ".jpg"):
        with pytest.raises(ImageError):
            read_rgb(Path(name))


def test_what_is_chosen_stands_in_the_preprocess_block_and_nothing_else() -> None:
    assert AS_STORED.preprocess() == {}
    assert UPRIGHT.preprocess() == {"exif": True}
    assert TWELVE.preprocess() == {"white_level": 4095}
