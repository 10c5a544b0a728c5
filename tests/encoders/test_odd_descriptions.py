"""Descriptions of preprocessing and of models that are no such thing."""

from pathlib import Path

import pytest

from cacheclip.encoders import open_clip_
from cacheclip.encoders.base import EncoderSpec
from cacheclip.encoders.catalogue import _read_preprocess
from cacheclip.errors import InputError

ODD = [b"[" * 100_000, b'{"mean":' * 100_000, b"\xff\xfe{\0}\0", b"", b"[1]", b"null", b"NaN"]


@pytest.mark.parametrize("data", ODD)
def test_preprocessing_from_a_file_that_is_none_is_named(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "p.json").write_bytes(data)
    with pytest.raises(InputError, match="does not describe preprocessing"):
        _read_preprocess(tmp_path / "p.json")


@pytest.mark.parametrize("data", ODD)
def test_a_model_folder_with_a_description_that_is_none_is_named(
    tmp_path: Path, data: bytes
) -> None:
    (tmp_path / open_clip_.FOLDER_WEIGHTS[0]).write_bytes(b"")
    (tmp_path / open_clip_.CONFIG_FILE).write_bytes(data)
    with pytest.raises(InputError, match="describes no open_clip model"):
        open_clip_._from_folder(EncoderSpec(f"local-dir:{tmp_path}"))
