"""The layers of one picture are there together, or the picture is bad."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cacheclip.datasets.images import ImageError, using_rgb
from cacheclip.extraction import decode
from cacheclip.extraction.plan import ExtractRequest
from cacheclip.extraction.run import run
from cacheclip.store.home import Home
from cacheclip.store.writer import ImageStoreWriter

Asked = Callable[..., ExtractRequest]


def test_a_retry_that_was_cut_off_between_two_layers_is_completed(
    asked: Asked, pets: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = Home(tmp_path / "home")

    def unreadable(source: Any, transform: Any, reading: Any) -> Any:
        if Path(source).name == "007.png":
            raise ImageError("decode", "the disk was busy")
        return using_rgb(source, transform, reading)

    with monkeypatch.context() as broken:
        broken.setattr(decode, "using_rgb", unreadable)
        assert run(asked(pets), home).failed == 1
    features = home.find()
    (split,) = [name for name in features.labels.splits if features.failures(name)]
    rows = list(features.failures(split))

    replace = ImageStoreWriter.replace

    def killed(self: ImageStoreWriter, *arguments: Any, **options: Any) -> Any:
        if self.key["layer"] == "pre-projection":
            raise KeyboardInterrupt
        return replace(self, *arguments, **options)

    with monkeypatch.context() as cut:
        cut.setattr(ImageStoreWriter, "replace", killed)
        with pytest.raises(KeyboardInterrupt):
            run(asked(pets, retry_failed=True), home)
    features = home.find()
    assert features.store(split).failed == 0
    assert list(features.failures(split)) == rows  # not good as long as a layer lacks it

    run(asked(pets), home)
    features = home.find()
    assert features.failures(split) == {}
    for layer in ("image", "pre-projection"):
        assert features.store(split, layer).load().ok.all()
