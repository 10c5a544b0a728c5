"""`cacheclip detect` on sets of regions that lie on disk, and what it refuses."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cacheclip.datasets.boxes import region_id
from cacheclip.detection.scenes import Scenes
from cacheclip.store.home import Home, Labels, SplitLabels
from cacheclip.store.key import image_key, key_digest, samples_sha256, set_digest_of, text_key
from cacheclip.store.labels import UNLABELLED
from cacheclip.store.regions import write_regions
from cacheclip.store.schema import REGIONS_SPLIT
from cacheclip.store.text import write_text_store
from cacheclip.store.writer import ImageStoreWriter
from tests.detection.toys import SCALE, D, scenes
from tests.makers import ENCODER, build_home, cacheclip

TOLD: dict[str, Any] = {
    "encoder": ENCODER | {"embed_dim": D, "logit_scale": SCALE},
    "compute": {"dtype": "float32"},
}
PAIR = ("--train", "one", "--test", "two", "--set", "epochs=5")


def keep(home: Home, name: str, own: Scenes) -> None:
    """Toy scenes as a set of regions that an extraction left."""
    there, truth, names = own.proposals, own.opened(), list(own.of.labels.classnames)
    image = [*own.pictures, *truth.image]
    boxes = np.concatenate([there.boxes, truth.boxes])
    ids = [region_id(there.images[k], box) for k, box in zip(image, boxes.tolist(), strict=True)]
    key = image_key(
        layer="image", preprocess={}, store_dtype="float32", dataset=name, split=REGIONS_SPLIT,
        ids=ids, **TOLD,
    )  # fmt: skip
    x = np.concatenate([*own.parts(), np.ones((len(truth.image), D), np.float32)])
    path = home.store_path(name, REGIONS_SPLIT, "image", key_digest(key))
    with ImageStoreWriter(path, key, ids=ids, encode_batch=4, info={}) as writer:
        for spec in writer.missing:
            writer.write(spec, x[spec.first : spec.first + spec.rows])
        writer.finish()
    assert own.of.text is not None
    prompts = [[f"a {n}"] for n in names]
    text = text_key(prompts=prompts, classnames=names, template="t", **TOLD)
    store = write_text_store(
        home.text_path(name, key_digest(text)), text, per_prompt=own.of.text.load(),
        classnames=names, prompts=prompts, info={},
    )  # fmt: skip
    sha = samples_sha256(ids)
    write_regions(home.dataset_folder(name), there, truth, sha)
    labels = [*[UNLABELLED] * len(there.boxes), *truth.labels.tolist()]
    home.write_labels(Labels(name, names, {REGIONS_SPLIT: SplitLabels(sha, None, labels)}))
    home.record_extraction(
        dataset=name, model="toy", pretrained="v1", set_digest=set_digest_of(key),
        text_digest=store.digest, root=None,
    )  # fmt: skip


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    made = Home(tmp_path_factory.mktemp("regions") / "home")
    for name, seed in (("one", 1), ("two", 2), ("three", 3), ("four", 4)):
        keep(made, f"regions/{name}", scenes(seed))
    return made


def test_two_pairs_are_two_trials_with_an_interval(home: Home) -> None:
    words = ("--train", "one,three", "--test", "two,four", "--set", "epochs=5")
    said = cacheclip("detect", *words, "--home", home.root)
    assert said.code == 0, said.err
    lines = said.out.splitlines()
    assert lines[0].split("  ")[0] == "method"
    shown = [line.split("  ")[0] for line in lines[2:]]
    assert shown == ["zero-shot", "linear-adapter", "linear-adapter, self-trained 1x"]
    assert "[" in lines[-1] and "2 pairs of sets; 3 base and 2 novel classes" in said.err


def test_json_has_every_class_of_every_round(home: Home) -> None:
    said = cacheclip("detect", *PAIR, "--rounds", "2", "--json", "--home", home.root)
    rows = json.loads(said.out)
    assert [(row["method"], row["rounds"]) for row in rows] == [
        ("zero-shot", 0), *(("linear-adapter", k) for k in range(3))
    ]  # fmt: skip
    for row in rows:
        each = row["per_class"]["ap50"]
        assert row["ap50_novel"] == pytest.approx(np.mean(each[3:]))
        assert row["ap50_all"] == pytest.approx(np.mean(each))


def test_what_lies_on_disk_is_what_arrays_give(home: Home) -> None:
    """The rows of the first pair are those of the same scenes in memory."""
    import torch

    from cacheclip.detection.learner import Learner
    from cacheclip.detection.run import Protocol, run
    from cacheclip.detection.scenes import matched
    from cacheclip.methods import base

    said = cacheclip("detect", *PAIR[:4], "--methods", "zero-shot", "--json", "--home", home.root)
    train, test = scenes(1), scenes(2)
    learner = Learner(base.get("zero-shot"), {}, 16, 1, torch.device("cpu"), 10**8)
    (mine,) = run(train, test, matched(train), [learner], Protocol())
    assert json.loads(said.out)[0]["per_class"]["ap50"] == pytest.approx(mine.precision.ap50)


@pytest.mark.parametrize(
    ("words", "code", "what", "fix"),
    [
        (("--train", "one", "--test", "one"), 2, "the same scenes", "--regions FILE"),
        (("--train", "one,two", "--test", "three"), 2, "2 sets to learn from", "A,B --test C,D"),
        (("--train", "six", "--test", "one"), 4, "six", "cacheclip extract"),
        ((*PAIR[:4], "--methods", "tip-adapter"), 2, "classes learned from", "linear-adapter"),
        ((*PAIR[:4], "--methods", "coop"), 4, "coop", "cacheclip extract"),
        ((*PAIR[:4], "--set", "strength=1,2"), 2, "nothing here chooses", "strength=1"),
    ],
)  # fmt: skip
def test_what_does_not_go_together_is_refused(
    home: Home, words: tuple[str, ...], code: int, what: str, fix: str
) -> None:
    said = cacheclip("detect", *words, "--home", home.root)
    assert said.code == code, said.err
    assert what in said.err and fix in said.err.split("fix:")[1]


def test_a_set_of_whole_pictures_is_none(tmp_path: Path) -> None:
    place = build_home(tmp_path / "home")
    said = cacheclip("detect", "--train", "toys", "--test", "toys", "--home", place.root)
    assert said.code == 4 and "whole pictures" in said.err
