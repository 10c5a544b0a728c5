"""Labels as people have them, through the commands: unequal classes, and text that says nothing."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression

from cacheclip.bundle import Bundle
from cacheclip.cli.main import cacheclip

COUNTS = {"train": (82, 149, 309), "val": (14, 25, 52), "test": (120, 220, 460)}
DIM = 64

Arrays = dict[str, NDArray[Any]]


def labelled() -> Arrays:
    """Three overlapping clouds on the sphere, and text of no relation to them."""
    random = np.random.default_rng(0)
    labels = np.concatenate([np.repeat(range(3), n) for n in COUNTS.values()])
    split = np.concatenate([np.repeat(name, sum(n)) for name, n in COUNTS.items()])
    x = 1.1 * random.normal(size=(3, DIM))[labels] + 3 * random.normal(size=(len(labels), DIM))
    x = x + 4 * random.normal(size=DIM)
    order = random.permutation(len(labels))
    return {
        "features": (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32)[order],
        "labels": labels[order],
        "split": split[order],
        "text_features": random.normal(size=(3, DIM)).astype(np.float32),
        "logit_scale": np.array(100.0),
    }


def run(*arguments: str) -> tuple[str, str]:
    done = CliRunner().invoke(cacheclip, arguments, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.stdout, done.stderr


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Arrays]:
    folder, arrays = tmp_path_factory.mktemp("labelled"), labelled()
    np.savez(folder / "plants.npz", **arrays)  # type: ignore[arg-type]
    run("import", str(folder / "plants.npz"), "--home", str(folder / "home"))
    return folder / "home", arrays


def fit(home: Path, *more: str) -> tuple[dict[str, Any], str]:
    words = ("--method", "linear-probe", "--shots", "all", "--json", "--home", str(home))
    out, talk = run("fit", *words, *more)
    row: dict[str, Any] = json.loads(out)
    return row, talk


def part(arrays: Arrays, *splits: str) -> tuple[NDArray[Any], NDArray[Any]]:
    own = np.isin(arrays["split"], splits)
    return arrays["features"][own].astype(float), arrays["labels"][own]


@pytest.mark.parametrize("more", [(), ("--select", "fixed"), ("--set", "class_weight=balanced")])
def test_all_labels_make_the_probe_that_scikit_learn_makes(
    world: tuple[Path, Arrays], more: tuple[str, ...]
) -> None:
    home, arrays = world
    row, _ = fit(home, *more)
    assert (row["shots"], row["n_train"]) == ("all", 540)
    weight = row["hparams"].get("class_weight")
    probe = LogisticRegression(C=row["hparams"]["C"], class_weight=weight, max_iter=10_000)
    theirs = probe.fit(*part(arrays, "train")).score(*part(arrays, "test"))
    assert abs(row["top1_test"] - theirs) <= 0.005
    assert row["top1_test"] > max(COUNTS["test"]) / sum(COUNTS["test"]) or weight


def test_the_final_bundle_learned_from_every_label_and_says_so(
    world: tuple[Path, Arrays], tmp_path: Path
) -> None:
    home, arrays = world
    plain, _ = fit(home, "--out", str(tmp_path / "plain"))
    row, talk = fit(home, "--out", str(tmp_path / "final"), "--final")
    everything = len(arrays["labels"])
    assert row["final"] == everything
    assert f"all {everything} labelled pictures, test included" in talk
    assert {k: row[k] for k in ("row_id", "hparams", "top1_test", "n_train")} == {
        k: plain[k] for k in ("row_id", "hparams", "top1_test", "n_train")
    }
    bundle = Bundle.read(tmp_path / "final")
    assert bundle.provenance["final"] is True
    assert bundle.provenance["n_train"] == everything
    assert {"train/image", "val/image", "test/image"} <= set(bundle.provenance["stores"])
    assert "final" not in Bundle.read(tmp_path / "plain").provenance
    x, y = part(arrays, "train", "val", "test")
    probe = LogisticRegression(C=row["hparams"]["C"], tol=1e-8, max_iter=100_000).fit(x, y)
    logits = x @ bundle.head["weight"].T + bundle.head["bias"]
    p = np.exp(logits - logits.max(1, keepdims=True))
    np.testing.assert_allclose(p / p.sum(1, keepdims=True), probe.predict_proba(x), atol=2e-3)


def test_a_final_bundle_has_a_file_of_its_own(world: tuple[Path, Arrays]) -> None:
    home, _ = world
    plain, _ = fit(home)
    final, _ = fit(home, "--final")
    assert final["row_id"] == plain["row_id"]
    assert Path(final["bundle"]).name == f"{plain['row_id']}-final.safetensors"
    assert Path(plain["bundle"]).is_file()


@pytest.mark.parametrize("shots", ["none", "0", "1,all"])
def test_shots_are_a_number_or_all(shots: str, tmp_path: Path) -> None:
    done = CliRunner().invoke(cacheclip, ["fit", "--shots", shots, "--home", str(tmp_path)])
    assert done.exit_code == 2
    assert "--shots" in done.output
