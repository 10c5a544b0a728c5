"""Bundles that somebody made up: each is refused in three lines before it answers anything."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from cacheclip.bundle import Bundle
from cacheclip.classifier import Classifier
from cacheclip.errors import CacheclipError, InputError
from cacheclip.inference.pictures import open_encoder
from cacheclip.task import Query

ENCODER: dict[str, Any] = {
    "library": "open_clip",
    "name": "nano",
    "pretrained": "v1",
    "weights_sha256": "0" * 64,
    "quickgelu": False,
    "embed_dim": 3,
}
NEAREST = Bundle(
    method="nearest-mean",
    method_version=1,
    static={},
    hparams={},
    layers=["image"],
    classnames=["ant", "bee"],
    encoder=ENCODER,
    preprocess={"mean": [0.5] * 3, "exif": False},
    provenance={},
    head={"weight": np.eye(2, 3, dtype=np.float32), "logit_scale": np.array(10, np.float32)},
)
CACHE = replace(
    NEAREST,
    method="tip-adapter-f",
    static={"epochs": 20, "batch_size": 256, "optimizer": "adamw", "schedule": "cosine"},
    head=NEAREST.head
    | {
        "keys": np.eye(3, dtype=np.float32),
        "labels": np.array([0, 1, 1]),
        "alpha": np.array(1, np.float32),
        "beta": np.array(5.5, np.float32),
    },
)


@pytest.mark.parametrize("bundle", [NEAREST, CACHE], ids=lambda bundle: bundle.method)
def test_a_good_bundle_answers(bundle: Bundle) -> None:
    x = torch.eye(3)[:2]
    assert Classifier(bundle).logits(Query({"image": x})).argmax(-1).tolist() == [0, 1]


def without(head: dict[str, Any], name: str) -> dict[str, Any]:
    return {other: x for other, x in head.items() if other != name}


def encoder(**changes: Any) -> Bundle:
    return replace(NEAREST, encoder=ENCODER | changes)


CRAFTED = {
    "too few names": replace(NEAREST, classnames=["ant"]),
    "too many names": replace(NEAREST, classnames=["ant", "bee", "cow"]),
    "no names": replace(NEAREST, classnames=[]),
    "no layers": replace(NEAREST, layers=[]),
    "an unknown layer": replace(NEAREST, layers=["image", "patches"]),
    "another layer": replace(NEAREST, layers=["image-norm"]),
    "an unknown setting": replace(NEAREST, static={"epochs": 3}),
    "a setting out of bounds": replace(CACHE, static={"epochs": 10**9}),
    "a word that is none": replace(CACHE, static={"schedule": "random"}),
    "a number for a word": replace(CACHE, static={"optimizer": 1}),
    "a word for a number": replace(CACHE, static={"epochs": "many"}),
    "no tensors": replace(NEAREST, head={}),
    "a tensor missing": replace(CACHE, head=without(CACHE.head, "keys")),
    "another width": replace(NEAREST, head=NEAREST.head | {"weight": np.eye(2, dtype=np.float32)}),
    "another rank": replace(NEAREST, head=NEAREST.head | {"weight": np.ones(3, np.float32)}),
    "another type": replace(NEAREST, head=NEAREST.head | {"weight": np.eye(2, 3)}),
    "whole numbers": replace(NEAREST, head=NEAREST.head | {"weight": np.eye(2, 3, dtype=int)}),
    "a label of no class": replace(CACHE, head=CACHE.head | {"labels": np.array([0, 1, 7])}),
    "a label below 0": replace(CACHE, head=CACHE.head | {"labels": np.array([0, 1, -1])}),
    "labels that are no numbers": replace(
        CACHE, head=CACHE.head | {"labels": np.ones(3, np.float32)}
    ),
    "an overflow": replace(CACHE, head=CACHE.head | {"beta": np.array(-3e38, np.float32)}),
    "no encoder": replace(NEAREST, encoder={}),
    "an encoder of no width": encoder(embed_dim=0),
    "an encoder of an endless width": encoder(embed_dim=10**12),
    "an encoder without a name": encoder(name=None),
    "a name that steers a terminal": encoder(name="\x1b[31m"),
    "a name that is too long for a file": encoder(pretrained="x" * 5000),
    "a name of half a character": encoder(pretrained="\ud800"),
    "an encoder of another library": encoder(library="torch.hub"),
    "weights without a digest": encoder(weights_sha256=1),
    "no mean": replace(NEAREST, preprocess={"mean": "grey"}),
    "a mean of one channel": replace(NEAREST, preprocess={"mean": [0.5]}),
    "a deviation of 0": replace(NEAREST, preprocess={"std": [0, 1, 1]}),
    "a size that is none": replace(NEAREST, preprocess={"size": [10**9, 3]}),
    "a turn that is none": replace(NEAREST, preprocess={"exif": "yes"}),
    "a level that is none": replace(NEAREST, preprocess={"white_level": 0}),
}


@pytest.mark.parametrize("bundle", CRAFTED.values(), ids=list(CRAFTED))
def test_what_no_method_left_is_refused_before_an_encoder_is_loaded(bundle: Bundle) -> None:
    with pytest.raises(InputError, match="is not one that"):
        open_encoder(bundle)


def test_a_method_that_there_is_not_is_refused() -> None:
    with pytest.raises(CacheclipError, match="no method 'nearest-man'"):
        Classifier(replace(NEAREST, method="nearest-man"))


def test_answers_that_are_not_finite_are_refused() -> None:
    with pytest.raises(InputError, match="not finite"):
        Classifier(NEAREST).logits(Query({"image": torch.full((1, 3), torch.nan)}))
