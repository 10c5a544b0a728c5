"""Families of class text: what a study hands to methods that read sentences, or all prompts."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from cacheclip.errors import InputError, StoreError
from cacheclip.exchange.import_npz import import_npz
from cacheclip.features import Features
from cacheclip.methods.base import Reads
from cacheclip.store.home import Home
from cacheclip.study.data import SetData
from cacheclip.study.texts import Texts
from cacheclip.task import unit

Array = NDArray[Any]

C, D, ROWS = 3, 6, 24
RANDOM = np.random.default_rng(3)
TEMPLATES = RANDOM.normal(size=(C, 2, D)).astype(np.float32) + 1
SENTENCES = RANDOM.normal(size=(C, 4, D)).astype(np.float32) + 1
SENTENCES[1, 2:] = 0  # this class has two, the others four
SENTENCES[2, 0] = 0  # and here the place of one is empty
X = RANDOM.normal(size=(ROWS, D)).astype(np.float32)
Y, SPLIT = np.arange(ROWS) % C, np.array(["train", "test"])[np.arange(ROWS) // C % 2]


def features(sentences: Array | None = SENTENCES) -> Features:
    return Features.of(
        X, Y, split=SPLIT, text=TEMPLATES, logit_scale=50, sentences=sentences, name="toys"
    )


def texts(sentences: Array | None = SENTENCES) -> Texts:
    return Texts(features(sentences).source, torch.device("cpu"))


def ensembles(own: Iterable[Array]) -> dict[str, torch.Tensor]:
    """Both means of each class's own prompts, without any that is not there."""
    there = [torch.from_numpy(x[(x != 0).any(-1)]) for x in own]
    return {
        "norm-mean": torch.stack([unit(unit(x).mean(0)) for x in there]),
        "raw-mean": torch.stack([x.mean(0) for x in there]),
    }


def test_each_class_s_own_prompts_weigh_the_same_in_every_family() -> None:
    both = [np.concatenate([TEMPLATES[c], SENTENCES[c]]) for c in range(C)]
    families: dict[str, Iterable[Array]] = {"": TEMPLATES, "cupl:": SENTENCES, "all:": both}
    for family, own in families.items():
        for name, mean in ensembles(own).items():
            torch.testing.assert_close(texts().of(family + name), mean)


def test_without_sentences_all_prompts_are_the_templates_and_cupl_is_an_error() -> None:
    own = texts(None)
    assert torch.equal(own.of("all:norm-mean"), own.of("norm-mean"))
    with pytest.raises(StoreError, match="no sentences") as caught:
        own.of("cupl:norm-mean")
    assert "Features.of(...) sentences=S" in caught.value.fix


def test_a_row_names_the_text_that_is_read() -> None:
    own = texts()
    read = {family: Reads(text=(f"{family}norm-mean",)) for family in ("", "cupl:", "all:")}
    assert [set(own.stores(reads)) for reads in read.values()] == [
        {"text"},
        {"sentences"},
        {"text", "sentences"},
    ]
    assert [own.template(reads) for reads in read.values()] == [
        "imported",
        "cupl:imported",
        "imported + cupl:imported",
    ]
    assert texts(None).template(read["all:"]) == "imported"


def test_an_import_gives_the_same_text_and_the_same_keys(tmp_path: Path) -> None:
    np.savez(
        tmp_path / "toys.npz",
        features=X,
        labels=Y,
        split=SPLIT,
        text_features=TEMPLATES,
        sentence_features=SENTENCES,
        logit_scale=50.0,
        classnames=[str(c) for c in range(C)],
    )
    home = Home(tmp_path / "home")
    import_npz(tmp_path / "toys.npz", home)
    found, memory = home.find(), texts()
    assert found.sentences is not None
    on_disk = SetData(found, torch.device("cpu"), 10**8).texts
    for name in ("norm-mean", "cupl:raw-mean", "all:norm-mean"):
        torch.testing.assert_close(on_disk.of(name), memory.of(name))
    reads = Reads(text=("all:norm-mean",))
    assert on_disk.stores(reads) == memory.stores(reads)


@pytest.mark.parametrize(
    ("sentences", "says"),
    [
        (SENTENCES[:2], "its shape is"),
        (SENTENCES[:, 0], "its shape is"),
        (SENTENCES[..., :4], "its shape is"),
        (np.where(np.arange(C)[:, None, None] == 2, 0, SENTENCES), "classes without any: 2"),
        (SENTENCES * np.nan, "not finite"),
        (SENTENCES.astype(complex), "and not floats"),
    ],
)
def test_misfits_are_said_by_the_name_that_was_given(sentences: Array, says: str) -> None:
    with pytest.raises(InputError, match=f"sentences: .*{says}"):
        features(sentences)
