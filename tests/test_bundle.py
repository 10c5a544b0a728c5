import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save

from cacheclip.bundle import Bundle
from cacheclip.errors import InputError


def make() -> Bundle:
    return Bundle(
        method="tip-adapter",
        method_version=1,
        static={},
        hparams={"alpha": 1.0},
        layers=["image"],
        classnames=["ant", "bee"],
        encoder={"name": "nano", "logit_scale": 40.0},
        preprocess={"size": 128},
        provenance={"dataset": "clipart"},
        head={
            "weight": np.eye(2, 3, dtype=np.float32)[::-1],
            "labels": np.arange(2),
            "alpha": np.array(0.5, np.float32),
        },
    )


def test_a_bundle_comes_back_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "b.safetensors"
    make().write(path)
    back = Bundle.read(path)
    for name, x in make().head.items():
        np.testing.assert_array_equal(back.head[name], x)
        assert back.head[name].shape == x.shape
    assert back.classnames == ["ant", "bee"]
    assert back.encoder == make().encoder


def test_the_same_bundle_is_the_same_bytes(tmp_path: Path) -> None:
    make().write(tmp_path / "a")
    make().write(tmp_path / "b")
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


NOT_OURS = save({"x": np.zeros(1)}, {"cacheclip": "{}"})


@pytest.mark.parametrize("content", [b"", b"not a bundle", b"\x80\x04pickle", NOT_OURS])
def test_what_is_no_bundle_is_said(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "b").write_bytes(content)
    with pytest.raises(InputError, match="not a cacheclip bundle"):
        Bundle.read(tmp_path / "b")
    with pytest.raises(InputError, match="no such bundle"):
        Bundle.read(tmp_path / "absent")


def written(path: Path, about: dict[str, Any], head: dict[str, Any] | None = None) -> Path:
    """A file of these metadata, with the head of `make` or another."""
    head = {name: x.copy() for name, x in (make().head if head is None else head).items()}
    path.write_bytes(save(head, {"cacheclip": json.dumps(about)}))
    return path


def of_today() -> dict[str, Any]:
    """The metadata of a bundle from before there was a digest."""
    about = dataclasses.asdict(make()) | {"format": 1}
    del about["head"]
    return about


def test_a_newer_format_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cacheclip.bundle.FORMAT", 3)
    make().write(tmp_path / "b")
    monkeypatch.undo()
    with pytest.raises(InputError, match="newer cacheclip") as caught:
        Bundle.read(tmp_path / "b")
    assert caught.value.fix == "pip install --upgrade cacheclip"
    with pytest.raises(InputError, match="another version"):
        Bundle.read(written(tmp_path / "b", of_today() | {"format": "1"}))


def test_a_bundle_from_before_the_digest_is_read(tmp_path: Path) -> None:
    back = Bundle.read(written(tmp_path / "b", of_today()))
    assert (back.classnames, back.encoder) == (make().classnames, make().encoder)


WRONG: dict[str, Any] = {
    "method": 1,
    "method_version": "1",
    "static": [],
    "hparams": {"alpha": None},
    "layers": "image",
    "classnames": ["ant", 7],
    "encoder": None,
    "provenance": [],
    "learned": {"alpha": "much"},
    "temperature": 0,
}


@pytest.mark.parametrize("name", WRONG)
def test_a_field_of_another_type_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError, match=f"damaged: {name} is not"):
        Bundle.read(written(tmp_path / "b", of_today() | {name: WRONG[name]}))


@pytest.mark.parametrize(
    "x",
    [np.array([1, np.nan], np.float32), np.array([np.inf], np.float32), np.zeros(2, np.float16)],
)
def test_a_tensor_that_is_not_finite_or_of_another_type_is_refused(tmp_path: Path, x: Any) -> None:
    with pytest.raises(InputError, match="damaged: tensor weight"):
        Bundle.read(written(tmp_path / "b", of_today(), {"weight": x}))


def test_metadata_that_is_deep_or_short_of_a_field_is_no_bundle(tmp_path: Path) -> None:
    about = of_today()
    del about["classnames"]
    for text in (json.dumps(about), '{"format":' + 10**5 * "[", '{"a":' * 10**5, "[]"):
        (tmp_path / "b").write_bytes(save({"x": np.zeros(1, np.float32)}, {"cacheclip": text}))
        with pytest.raises(InputError, match="not a cacheclip bundle"):
            Bundle.read(tmp_path / "b")


def test_no_flipped_bit_changes_what_a_bundle_says(tmp_path: Path) -> None:
    make().write(tmp_path / "b")
    whole, said = (tmp_path / "b").read_bytes(), repr(Bundle.read(tmp_path / "b"))
    named = 0
    for place in range(len(whole)):
        flipped = bytearray(whole)
        flipped[place] ^= 1 << place % 8
        (tmp_path / "b").write_bytes(flipped)
        try:
            assert repr(Bundle.read(tmp_path / "b")) == said
        except InputError:
            named += 1
    assert named > 0.9 * len(whole)
