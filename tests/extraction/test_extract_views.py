"""Views and parts of pictures lie beside the features of the pictures, which stay as they are."""

import shlex
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from cacheclip.errors import InputError, MachineError, StoreError, UsageError
from cacheclip.extraction import fill
from cacheclip.extraction.plan import ExtractRequest
from cacheclip.extraction.run import run
from cacheclip.extraction.views import RATIO, SCALE, _box, view
from cacheclip.store.about import about
from cacheclip.store.home import Home
from cacheclip.store.overview import overview
from cacheclip.store.reader import Store
from tests.extraction.test_extract_run import StopError, files
from tests.reliability.world import run_command

Asked = Callable[..., ExtractRequest]
Painter = Callable[[Path, int], None]


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path / "home", f" --home {shlex.quote(str(tmp_path / 'home'))}")


def rows(store: Store) -> NDArray[np.float32]:
    """All rows of a store in the shape of what they hold."""
    return store.load(normalize=False).features.reshape(-1, *store.shape)


def test_views_are_added_and_the_first_is_the_picture_itself(
    asked: Asked, home: Home, pets: Path
) -> None:
    run(asked(pets), home)
    before = files(home)
    with pytest.raises(StoreError, match="no 3 views") as caught:
        home.find().store("train", views=3)
    said = run_command(shlex.split(caught.value.fix)[1:])
    assert "0 pictures encoded, 60 were there" in said
    assert "wrote 3 views of 36 train pictures" in said
    assert {**files(home), **before} == files(home)
    features = home.find()
    for layer in ("image", "pre-projection"):
        plain, views = features.store("train", layer), features.store("train", layer, views=3)
        assert (views.views, views.shape) == (3, (3, plain.dim))
        x = rows(views)
        np.testing.assert_allclose(x[:, 0], rows(plain), rtol=2e-3, atol=2e-3)
        assert (np.abs(x[:, 1] - x[:, 2]).max(1) > 0.01).all()
        assert views.ids() == plain.ids()
    with pytest.raises(StoreError, match="no 3 views of layer image of split test") as caught:
        features.store("test", views=3)
    assert "--query-views 3" in caught.value.fix
    again = run(asked(pets, views=3), home)
    assert any("nothing was encoded" in line for line in again.notices)
    assert not any("wrote" in line for line in again.notices)
    assert "image/views" in overview(home).lines[0].layers


def test_views_of_what_is_answered_for_are_of_val_and_test(
    asked: Asked, home: Home, pets: Path
) -> None:
    run(asked(pets, query_views=2), home)
    before = files(home)
    features = home.find()
    for split in ("val", "test"):
        views = rows(features.store(split, views=2))
        np.testing.assert_allclose(views[:, 0], rows(features.store(split)), rtol=2e-3, atol=2e-3)
    with pytest.raises(StoreError, match="of split train") as caught:
        features.store("train", views=2)
    said = run_command(shlex.split(caught.value.fix)[1:])  # asks for no views of the others again
    assert "--query-views" not in caught.value.fix
    assert "wrote 2 views of 36 train pictures" in said
    assert {**files(home), **before} == files(home)


def test_fewer_views_are_the_first_of_more(asked: Asked, home: Home, pets: Path) -> None:
    run(asked(pets, views=4), home)
    found = home.find().store("train", views=2)
    assert found.views == 4
    run(asked(pets, views=2), home)
    two = home.find().store("train", views=2)
    assert two.views == 2
    np.testing.assert_allclose(rows(found)[:, :2], rows(two), rtol=2e-3, atol=2e-3)


def test_new_pictures_cost_their_own_views_alone(
    asked: Asked, home: Home, pets: Path, paint: Painter
) -> None:
    run(asked(pets, views=2), home)
    store = home.find().store("train", views=2)
    before = dict(zip(store.ids(), rows(store), strict=True))
    paint(pets / "cat" / "100.png", 100)
    assert run(asked(pets, views=2), home).encoded == 1
    store = home.find().store("train", views=2)
    after = dict(zip(store.ids(), rows(store), strict=True))
    for sample in before.keys() & after.keys():
        np.testing.assert_array_equal(after[sample], before[sample])


def test_cut_short_they_leave_the_set_usable_and_end_with_the_same_bytes(
    asked: Asked, home: Home, pets: Path, tmp_path: Path
) -> None:
    whole, request = Home(tmp_path / "whole"), asked(pets, views=2, rows_per_shard=8)
    run(request, whole)
    run(asked(pets, rows_per_shard=8), home)

    def stop(what: str, done: int, total: int) -> None:
        if what == "pictures" and 60 + 2 * 16 <= done < total:
            raise StopError

    with pytest.raises(StopError):
        run(request, home, stop)
    assert home.find().store("train").load().ok.all()
    with pytest.raises(StoreError, match="incomplete") as caught:
        home.find().store("train", views=2)
    assert "--views 2" in caught.value.fix
    (line,) = overview(home).lines
    assert "image/views" in line.state
    assert line.finish == caught.value.fix
    run(request, home)
    assert files(home) == files(whole)


def test_a_broken_picture_counts_once(asked: Asked, home: Home, pets: Path) -> None:
    (pets / "cat" / "001.png").write_bytes(b"no picture")
    report = run(asked(pets, views=2, layers=("patches",)), home)
    assert (report.failed, report.encoded) == (1, 59)
    wrote = [line for line in report.notices if line.startswith("wrote ")]
    assert sum(line.startswith("wrote patches of ") for line in wrote) == 3  # splits
    assert any(line.startswith("wrote 2 views of ") for line in wrote)
    (pets / "dog" / "002.png").write_bytes(b"no picture")
    with pytest.raises(InputError, match="2 of 60 pictures failed, 1 may"):
        run(asked(pets, views=2, layers=("patches",)), home)


def test_parts_are_added_by_the_command_that_is_named(asked: Asked, home: Home, pets: Path) -> None:
    run(asked(pets), home)
    with pytest.raises(StoreError, match="no patches features") as caught:
        home.find().store("test", "patches")
    said = run_command(shlex.split(caught.value.fix)[1:])
    assert "patches of 60 pictures will take 0.0 MB of disk: 4 vectors each of 16 float16" in said
    assert "not trained for it" in said  # a vision transformer's tokens
    store = home.find().store("test", "patches")
    assert "not trained for it" in store.header.info["patches"]
    assert about(home.find())["patches"] == store.header.info["patches"]
    assert store.shape == (4, 16)  # 16 x 16 pixels in patches of 8
    assert np.isfinite(rows(store)).all()


def test_what_an_encoder_or_a_disk_cannot_give_is_said_before_the_first_picture(
    asked: Asked, home: Home, pets: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def encoded(*_: object) -> None:
        raise AssertionError("a picture was encoded")

    from cacheclip.encoders.towers import OpenClipEncoder

    monkeypatch.setattr(OpenClipEncoder, "encode_images", encoded)
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=1000))
        with pytest.raises(MachineError, match="GB left"):
            run(asked(pets, layers=("patches",)), home)
    monkeypatch.setattr(OpenClipEncoder, "encode_patches", lambda *_: None)
    with pytest.raises(UsageError, match="no features of the parts"):
        run(asked(pets, layers=("patches",)), home)
    monkeypatch.setattr(OpenClipEncoder, "text_tower", lambda *_: None)
    with pytest.raises(UsageError, match="CLIP's form"):
        run(asked(pets, layers=("text-tower",)), home)
    assert fill.STORE_DTYPE == "float16"  # what the size is reckoned in


def test_a_view_is_a_part_of_its_picture_by_id_and_number_alone() -> None:
    levels = np.random.default_rng(0).integers(0, 256, (90, 120, 3), np.uint8)
    picture = Image.fromarray(levels)
    assert view(picture, (32, 24), "a", 0) is picture
    one = view(picture, (32, 24), "a", 1)
    assert one.size == (32, 24)
    assert one.tobytes() == view(picture, (32, 24), "a", 1).tobytes()
    others = {view(picture, (32, 24), *of).tobytes() for of in (("a", 2), ("b", 1), ("b", 2))}
    assert len({one.tobytes(), *others}) == 4


@pytest.mark.parametrize("size", [(90, 120), (500, 7), (1, 300), (1, 1)])
def test_a_part_lies_in_the_picture_and_has_the_shape_of_the_recipe(size: tuple[int, int]) -> None:
    import random

    width, height = size
    for seed in range(200):
        left, top, right, bottom = _box(width, height, random.Random(seed))
        w, h = right - left, bottom - top
        assert 0 <= left < right <= width
        assert 0 <= top < bottom <= height
        if size == (90, 120):
            assert SCALE[0] * 0.97 <= w * h / (width * height) <= SCALE[1]
            assert RATIO[0] * 0.97 <= w / h <= RATIO[1] * 1.03
