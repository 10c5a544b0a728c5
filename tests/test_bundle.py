from pathlib import Path

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


def test_another_format_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cacheclip.bundle.FORMAT", 2)
    make().write(tmp_path / "b")
    monkeypatch.undo()
    with pytest.raises(InputError, match="another version"):
        Bundle.read(tmp_path / "b")
