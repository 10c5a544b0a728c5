"""An extraction keeps what methods read of the encoder, and adds to older homes only that."""

import shlex
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from cacheclip.errors import StoreError
from cacheclip.extraction.plan import ExtractRequest
from cacheclip.extraction.run import run
from cacheclip.store.home import Home
from tests.extraction.test_extract_run import files
from tests.reliability.world import run_command

Asked = Callable[..., ExtractRequest]


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path / "home", f" --home {shlex.quote(str(tmp_path / 'home'))}")


def test_the_projection_is_kept_and_makes_one_layer_of_the_other(
    asked: Asked, home: Home, pets: Path
) -> None:
    run(asked(pets), home)
    features = home.find()
    before, after = (
        features.store("train", layer).load(normalize=False).features
        for layer in ("pre-projection", "image")
    )
    matrix = features.part("projection")["projection"]
    bias = features.part("projection-bias")["projection-bias"]
    np.testing.assert_allclose(before @ matrix + bias, after, rtol=2e-3, atol=4e-3)


def test_a_home_of_before_is_read_and_gets_what_it_lacks(
    asked: Asked, home: Home, pets: Path
) -> None:
    first = run(asked(pets), home)
    whole = files(home)
    shutil.rmtree(next(path for path in first.stores if path.name.startswith("encoder-")))
    with pytest.raises(StoreError, match="no part projection") as caught:
        home.find().part("projection")
    run_command(shlex.split(caught.value.fix)[1:])
    assert files(home) == whole
    assert home.find().part("projection")
    assert run(asked(pets), home).stores == first.stores


def test_the_text_tower_is_kept_on_request_by_the_command_that_is_named(
    asked: Asked, home: Home, pets: Path
) -> None:
    run(asked(pets), home)
    before = files(home)
    with pytest.raises(StoreError) as caught:
        home.find().part("tower")
    said = run_command(shlex.split(caught.value.fix)[1:])
    assert "0 pictures encoded, 60 were there" in said
    assert "wrote the text-tower" in said
    features = home.find()
    tower, tokens = features.part("tower"), features.part("tokens")["tokens"]
    assert tower["token_embedding.weight"].shape == (49408, 16)
    assert len(tokens) == len(features.labels.classnames)
    assert {**files(home), **before} == files(home)
    again = run(asked(pets, layers=("text-tower",)), home)
    assert any("nothing was encoded" in line for line in again.notices)
