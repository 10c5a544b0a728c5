"""What a file declares is compared before memory is taken for it."""

import io
import os
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cacheclip.errors import InputError
from cacheclip.exchange import npz
from cacheclip.exchange.import_npz import import_npz
from cacheclip.exchange.npz import read_npz
from cacheclip.exchange.source import Source
from cacheclip.store.home import Home

Arrays = dict[str, Any]


def header(text: str, version: int = 1) -> bytes:
    """A .npy file of a header alone."""
    size = len(text).to_bytes(2 if version == 1 else 4, "little")
    return b"\x93NUMPY" + bytes([version, 0]) + size + text.encode()


def described(descr: str, shape: str) -> bytes:
    return header(f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}}}\n")


def packed(path: Path, arrays: Arrays) -> Path:
    """A .npz file of arrays and of bytes that say that they are some."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, x in arrays.items():
            member = io.BytesIO()
            if isinstance(x, bytes):
                member.write(x)
            else:
                np.save(member, x)
            archive.writestr(f"{name}.npy", member.getvalue())
    return path


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        (described("'<i8'", "(5000000000,)"), "40,000,000,000 bytes, and the file holds"),
        (described("'<i8'", "(4611686018427387904, 4611686018427387904)"), "the file holds"),
        (described("'<i8'", "(-5,)"), "negative dimensions"),
        (header("{'descr': '<i8', 'fortran_order': False, 'shape': (3,\n"), "its header is none"),
        (described("'''<i8'", "(3,)"), "its header is none"),
        (described("'<i8'", "-" * 4000 + "1"), "its header is none"),
        (described("[" * 5000, "(3,)"), "its header is none"),
        (header("{}" + " " * 20_000, version=3), "longer than 10,000 bytes"),
        (b"no array", "cannot be read"),
        (b"", "cannot be read"),
    ],
)
def test_a_header_that_lies_or_is_none_is_named(
    tmp_path: Path, arrays: Arrays, home: Home, labels: bytes, said: str
) -> None:
    file = packed(tmp_path / "x.npz", arrays | {"labels": labels})
    with pytest.raises(InputError, match=said) as caught:
        import_npz(file, home)
    assert caught.value.what.startswith("labels cannot be read: ")


def test_rows_are_compared_before_the_features_are_unpacked(
    tmp_path: Path, arrays: Arrays, home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(npz, "array_of", lambda *_: pytest.fail("an array was unpacked"))
    wide = np.zeros((100_000, 8), np.float16)
    cases: list[tuple[Arrays, str]] = [
        (arrays | {"features": wide}, r"split: its shape is \[36\], and features have 100,000"),
        (
            {"train_features": wide, "train_labels": arrays["labels"]},
            r"train_labels has \[36\], and train_features has 100,000 rows",
        ),
    ]
    for content, said in cases:
        with pytest.raises(InputError, match=said):
            import_npz(packed(tmp_path / "x.npz", content), home)


def test_arrays_beyond_the_memory_of_the_machine_are_refused(
    save: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    file = save()
    monkeypatch.setattr(os, "sysconf", lambda name: 10)
    with pytest.raises(InputError, match="this machine has"):
        read_npz(file, Source(str(file), "cacheclip import"))


def test_one_number_where_features_are_needed_is_named(
    tmp_path: Path, arrays: Arrays, home: Home
) -> None:
    content = {"train_features": np.array(1.0), "train_labels": arrays["labels"]}
    with pytest.raises(InputError, match="train_features is one number"):
        import_npz(packed(tmp_path / "x.npz", content), home)


@pytest.mark.parametrize("name", ["draw_" + "9" * 5000 + "_1", "draw_1_" + "9" * 5000])
def test_numbers_that_no_draw_has_are_refused(
    tmp_path: Path, arrays: Arrays, home: Home, name: str
) -> None:
    file = packed(tmp_path / "x.npz", arrays | {name: np.arange(3)})
    with pytest.raises(InputError, match="a draw is named draw_SEED_K"):
        import_npz(file, home)


def test_labels_beyond_whole_numbers_are_said_in_a_few_digits(
    tmp_path: Path, arrays: Arrays, home: Home
) -> None:
    labels = np.where(arrays["labels"] == 1, np.longdouble("1e4900"), 0)
    with pytest.raises(InputError, match="labels from 0 to ") as caught:
        import_npz(packed(tmp_path / "x.npz", arrays | {"labels": labels}), home)
    assert len(caught.value.what) < 60


def test_a_million_numbers_a_row_are_read_as_they_were_written(tmp_path: Path, home: Home) -> None:
    dim = 1_000_000
    features = np.full((4, dim), 0.37, np.float16) + np.arange(4, dtype=np.float16)[:, None]
    content = {"features": features, "labels": [0, 1, 0, 1], "split": ["train"] * 2 + ["test"] * 2}
    np.savez(tmp_path / "wide.npz", **content)  # type: ignore[arg-type]
    import_npz(tmp_path / "wide.npz", home)
    for split in ("train", "test"):
        store = home.find("npz/wide").images[split, "image"]
        assert np.isfinite(store.load().features).all()


def test_a_path_that_is_no_text_is_refused_before_anything_is_written(
    save: Callable[..., Path], home: Home
) -> None:
    file = save(os.fsdecode(b"a\xff.npz"))
    with pytest.raises(InputError, match="not UTF-8"):
        import_npz(file, home, "toys")
    assert not home.root.exists()
