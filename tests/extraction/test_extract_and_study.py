"""Views and parts of pictures, from the pictures through a study to the answers of a bundle."""

import shlex
from collections.abc import Callable
from pathlib import Path

import pytest

from cacheclip.bundle import Bundle
from cacheclip.errors import StoreError
from cacheclip.extraction.plan import ExtractRequest
from cacheclip.extraction.run import run
from cacheclip.inference.cached import cached_rows, find_cached
from cacheclip.inference.pictures import open_encoder, predict
from cacheclip.inference.rows import predict_rows
from cacheclip.store.home import Home
from cacheclip.study.compare import Comparison, Request
from cacheclip.study.fit import fit
from cacheclip.study.settings import Given
from tests.reliability.world import run_command

Asked = Callable[..., ExtractRequest]


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path / "home", f" --home {shlex.quote(str(tmp_path / 'home'))}")


def study(home: Home, method: str, settings: Given) -> None:
    request = Request((method,), (2,), (1, 2), "full-val", settings)
    rows = [row for _, row in Comparison(request, home.find(), home).run()]
    assert method in {row.method for row in rows}
    assert [row.error for row in rows] == [None] * len(rows)


def test_what_a_study_lacks_is_made_by_the_command_that_it_names(
    asked: Asked, home: Home, pets: Path
) -> None:
    run(asked(pets), home)
    for method, settings in (("calip", {}), ("gda", {"views": 3})):
        with pytest.raises(StoreError, match="there are no") as caught:
            study(home, method, settings)
        run_command(shlex.split(caught.value.fix)[1:])
        study(home, method, settings)


def test_a_bundle_of_parts_answers_for_pictures_as_for_the_cached_set(
    asked: Asked, home: Home, pets: Path, tower: Path, tmp_path: Path
) -> None:
    run(asked(pets, layers=("patches",)), home)
    out = tmp_path / "b.safetensors"
    for method, read, settings in (("calip", 0, {}), ("vt-clip", 4, {"lr": 1e-3})):
        request = Request((method,), (2,), (1,), "fixed", settings)
        fitted = fit(request, home.find(), home, out)
        assert fitted.row.n_train == read
        bundle = Bundle.read(out)
        assert bundle.layers == ["image", "patches"]
        cached = find_cached(bundle, home, "folder/pets/test")
        known = {a.image: a.top for a in predict_rows(bundle, cached_rows(bundle, cached), 2)}
        paths = [pets / name for name in known]
        encoder = open_encoder(bundle, f"local-dir:{tower}")
        for answer, top in zip(predict(bundle, encoder, paths, 2), known.values(), strict=True):
            assert dict(answer.top) == pytest.approx(dict(top), abs=5e-3)
