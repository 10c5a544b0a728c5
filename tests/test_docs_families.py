"""The pages of the families: every method has its page, and the commands of each page run."""

import re
import shlex
from pathlib import Path
from unittest import mock

import numpy as np
import pytest

from cacheclip.methods import base, names
from cacheclip.store.home import Home
from cacheclip.store.key import key_digest, text_key
from cacheclip.store.schema import ENCODER, SENTENCES
from cacheclip.store.text import write_text_store
from tests.makers import (
    CLASSES,
    DIM,
    ENCODER as FIRST,
    PER_CLASS,
    add_encoder,
    add_store,
    build_home,
    cacheclip,
)
from tests.study.test_frozen_parts import keep, with_tower

DOCS = Path(__file__).resolve().parent.parent / "docs"
PAGES = [
    *("cache-models", "linear-heads", "gaussian-and-kernel-heads", "adapters"),
    *("prompt-learning", "encoders", "transductive", "text", "views"),
    *(f"papers/{page.stem}" for page in sorted((DOCS / "papers").glob("*.md"))),
]
WIDE = 24  # of the features before the projection
SHOTS = 16
ONE_DRAW = ("--shots", "2", "--seeds", "1")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    """All that an extraction keeps of four classes, by the name of the set that ships."""
    train = (SHOTS,) * CLASSES
    root = tmp_path_factory.mktemp("families") / "home"
    with mock.patch.dict(FIRST, name="nano"):
        home = build_home(root, "clipart", train=train)
    add_encoder(home, "ViT-B-32@openai")
    with_tower(home)
    random = np.random.default_rng(1)

    def normal(*shape: int) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
        return random.normal(size=shape).astype(np.float32)

    for split, count in (PER_CLASS | {"train": SHOTS}).items():
        add_store(home, split, "pre-projection", normal(count * CLASSES, WIDE))
        add_store(home, split, "patches", normal(count * CLASSES, 3, DIM))
    add_store(home, "train", "image", normal(SHOTS * CLASSES, 10, DIM), views=10)
    projections = {
        "projection": normal(WIDE, DIM),
        "projection-bias": normal(DIM),
        "text-projection": normal(WIDE, DIM),
    }
    keep(home, ENCODER, projections)
    found = home.find()
    classes = list(found.labels.classnames)
    prompts = [[f"the {name} is seen {k}" for k in range(3)] for name in classes]
    key = text_key(
        encoder=found.encoder,
        compute=found.compute,
        prompts=prompts,
        classnames=classes,
        template=f"{SENTENCES}clipart",
    )
    write_text_store(
        home.text_path("clipart", key_digest(key)),
        key,
        per_prompt=normal(CLASSES, 3, DIM),
        classnames=classes,
        prompts=prompts,
        info={},
    )
    return home


def compared(page: str) -> list[list[str]]:
    """The words of the page's comparisons, without their shots and seeds."""
    lines = re.findall(r"^cacheclip (compare .*)$", (DOCS / f"{page}.md").read_text(), re.MULTILINE)
    return [shlex.split(re.sub(r" --(shots|seeds) \S+", "", line)) for line in lines]


def methods_of(words: list[str]) -> list[str]:
    return words[words.index("--methods") + 1].split(",")


@pytest.mark.parametrize("page", PAGES)
def test_the_comparisons_of_a_page_run(page: str, home: Home) -> None:
    """As they stand, but for one draw of two pictures a class, and an epoch."""
    for words in compared(page):
        chosen = methods_of(words)
        short = [word for name in chosen for word in _one_epoch(name)]
        said = cacheclip(*words, *short, *ONE_DRAW, "--home", home.root)
        assert said.code == 0, said.err
        assert "not run" not in said.err
        shown = {line.split()[0] for line in said.out.splitlines()[2:]}
        assert set(chosen) <= shown


def _one_epoch(method: str) -> list[str]:
    return ["--set", f"{method}.epochs=1"] if "epochs" in base.get(method).table else []


def test_every_method_stands_on_a_page_and_in_a_command_of_it() -> None:
    shown = {name for page in PAGES for words in compared(page) for name in methods_of(words)}
    floor = {"zero-shot", "nearest-mean"}  # a table shows them unasked
    assert set(names()) - floor <= shown
    text = "".join((DOCS / f"{page}.md").read_text() for page in PAGES)
    assert all(f"`{name}`" in text for name in names())
