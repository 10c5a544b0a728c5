"""Imported arrays are a feature set like any other, and give what extracted features give."""

import json
import re
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cacheclip.bundle import Bundle
from cacheclip.errors import InputError, StoreError
from cacheclip.exchange import import_npz as import_module
from cacheclip.exchange.import_npz import import_npz
from cacheclip.store.about import about
from cacheclip.store.home import FeatureSet, Home
from cacheclip.store.inventory import inventory
from cacheclip.study.compare import Request
from cacheclip.study.fit import fit
from tests.makers import build_home, cacheclip

ROOT = Path(__file__).resolve().parents[2]
Save = Callable[..., Path]


def as_arrays(features: FeatureSet) -> dict[str, Any]:
    """What somebody would save who has the same features: all rows that have one."""
    parts: dict[str, list[Any]] = {"features": [], "labels": [], "split": [], "sample_ids": []}
    for split in ("test", "val", "train"):  # in whatever order
        store = features.store(split)
        loaded = store.load(normalize=False)
        parts["features"].append(loaded.features[loaded.ok].astype(np.float16))
        parts["labels"].append(np.array(features.labels.splits[split].labels)[loaded.ok])
        parts["split"].append(np.full(loaded.ok.sum(), split))
        parts["sample_ids"].append(np.array(store.ids())[loaded.ok])
    assert features.text is not None
    return {
        **{name: np.concatenate(part) for name, part in parts.items()},
        "text_features": features.text.load(),
        "logit_scale": features.encoder["logit_scale"],
        "classnames": features.labels.classnames,
    }


@pytest.mark.parametrize("method", ["zero-shot", "nearest-mean", "linear-probe", "tip-adapter"])
@pytest.mark.parametrize("shots", [1, 4])
def test_imported_features_give_the_same_accuracies(
    method: str, shots: int, tmp_path: Path
) -> None:
    home = build_home(tmp_path / "home")
    there = home.find()
    np.savez(tmp_path / "same.npz", **as_arrays(there))
    import_npz(tmp_path / "same.npz", home)
    ours = home.find()
    assert (ours.dataset, ours.store_dtype) == ("npz/same", "float16")
    for seed in (1, 2):
        request = Request((method,), (shots,), (seed,), "fewshot-val")
        wanted, got = fit(request, there, home).row, fit(request, ours, home).row
        for name in ("top1_test", "top1_val", "hparams", "draw_id", "test_id", "n_test", "curve"):
            assert getattr(got, name) == getattr(wanted, name), name


def test_a_trained_method_gives_the_same_accuracy(tmp_path: Path) -> None:
    home = build_home(tmp_path / "home")
    there = home.find()
    np.savez(tmp_path / "same.npz", **as_arrays(there))
    import_npz(tmp_path / "same.npz", home)
    request = Request(("clip-adapter",), (4,), settings={"epochs": 30})
    wanted, got = fit(request, there, home).row, fit(request, home.find(), home).row
    assert (got.top1_test, got.top1_val) == (wanted.top1_test, wanted.top1_val)


@pytest.mark.parametrize(
    ("given", "stored"),
    [("float16", "float16"), (">f2", "float16"), ("float32", "float32"), ("float64", "float32")],
)
def test_nothing_that_was_given_is_lost(
    given: str, stored: str, arrays: dict[str, Any], save: Save, home: Home
) -> None:
    changed = {n: arrays[n].astype(given) for n in ("features", "text_features")}
    report = import_npz(save(**changed), home)
    found = home.find()
    assert (report.store_dtype, found.store_dtype) == (stored, stored)
    for split in ("train", "val", "test"):
        rows = arrays["split"] == split
        store = found.store(split)
        wanted = changed["features"][rows].astype(np.float32)
        np.testing.assert_array_equal(store.load(normalize=False).features, wanted)
        assert store.ids() == arrays["sample_ids"][rows].tolist()
        assert found.labels.splits[split].labels == arrays["labels"][rows].tolist()
    assert found.text is not None
    wanted = changed["text_features"].astype(np.float32)
    np.testing.assert_array_equal(found.text.load()[:, 0], wanted)


def test_what_is_optional_has_plain_defaults(
    arrays: dict[str, Any], save: Save, home: Home
) -> None:
    absent = dict.fromkeys(("text_features", "logit_scale", "classnames", "sample_ids"))
    import_npz(save(**absent), home, name="bare")
    found = home.find()
    assert (found.dataset, found.text, found.labels.classnames) == (
        "npz/bare",
        None,
        ["0", "1", "2"],
    )
    assert found.store("test").ids() == [
        str(row) for row in np.flatnonzero(arrays["split"] == "test")
    ]


def test_numbers_and_bytes_do_as_ids_and_names(save: Save, home: Home) -> None:
    import_npz(save(sample_ids=np.arange(100, 136), classnames=np.array([b"a", b"b", b"c"])), home)
    found = home.find()
    assert found.store("train").ids()[0] == "100"
    assert found.labels.classnames == ["a", "b", "c"]


def written(home: Home) -> dict[str, tuple[int, bytes]]:
    """Every file of every store with its age; locks are touched by whoever looks."""
    return {
        str(path): (path.stat().st_mtime_ns, path.read_bytes())
        for path in home.root.glob("stores/**/*")
        if path.is_file() and path.name != "lock"
    }


def test_the_same_file_again_writes_nothing_and_counts_as_the_last(save: Save, home: Home) -> None:
    file = save()
    first = import_npz(file, home, "one")
    import_npz(file, home, "two")
    before = written(home)
    again = import_npz(file, home, "one")
    assert (first.written, again.written, again.reused) == (36, 0, 36)
    assert again.notices == ("all rows are there already: nothing to write",)
    assert written(home) == before
    assert home.find().dataset == "npz/one"
    assert again.stores == first.stores


def test_other_samples_or_labels_of_the_name_are_refused(
    arrays: dict[str, Any], save: Save, home: Home
) -> None:
    import_npz(save(), home)
    before = written(home)
    swapped = arrays["labels"][[1, 0, *range(2, 36)]]
    for changes, said in (
        ({"sample_ids": arrays["sample_ids"][::-1]}, "other samples"),
        ({"split": arrays["split"][::-1]}, "other samples"),
        ({"labels": swapped}, "other labels"),
        ({"classnames": np.array(["ant", "bee", "cat"])}, "other labels or class names"),
    ):
        with pytest.raises(InputError, match=said) as caught:
            import_npz(save(**changes), home)
        assert "--name NAME" in caught.value.fix
    assert written(home) == before


def test_other_features_of_the_same_samples_are_a_set_of_their_own(
    arrays: dict[str, Any], save: Save, home: Home
) -> None:
    first = import_npz(save(), home)
    second = import_npz(save(features=arrays["features"] * 2), home)
    assert (second.written, second.dataset) == (36, first.dataset)
    assert home.find().digest == second.set_digest != first.set_digest
    assert home.find(model="imported", pretrained=first.pretrained).digest == first.set_digest


def test_labels_corrected_by_hand_are_kept_while_the_file_has_those_it_had(
    arrays: dict[str, Any], save: Save, home: Home
) -> None:
    import_npz(save(), home)
    file = home.labels_file("npz/toys")
    content = json.loads(file.read_text())
    content["splits"]["test"]["labels"][0] = 2
    file.write_text(json.dumps(content))
    report = import_npz(save(), home)
    assert "corrected by hand" in report.notices[0]
    assert home.find().labels.splits["test"].labels[0] == 2
    with pytest.raises(InputError, match="other labels"):
        import_npz(save(labels=arrays["labels"][[1, 0, *range(2, 36)]]), home)
    file.unlink()
    import_npz(save(), home)
    assert home.find().labels.splits["test"].labels[0] == 0


def test_ls_and_info_show_it_and_what_is_missing_names_the_import(save: Save, home: Home) -> None:
    file = save()
    import_npz(file, home)
    assert {(e.dataset, e.split, e.layer, e.model) for e in inventory(home)} == {
        ("npz/toys", split, layer, "imported")
        for split, layer in (("train", "image"), ("val", "image"), ("test", "image"), ("-", "text"))
    }
    command = f"cacheclip import {shlex.quote(str(file))} --name toys"
    assert about(home.find())["extract"] == command
    (shard,) = home.root.glob("stores/npz/toys/test/*/shard-*.h5")
    shard.unlink()
    with pytest.raises(StoreError) as caught:
        home.find()
    assert caught.value.fix == command
    assert import_npz(file, home, "toys").written == 9
    home.labels_file("npz/toys").unlink()
    with pytest.raises(StoreError) as caught:
        home.find("toys")
    assert caught.value.fix == command
    with pytest.raises(StoreError, match="no features of npz/others yet") as caught:
        home.find("npz/others")
    assert "cacheclip import FILE.npz --name others" in caught.value.fix


def test_a_killed_import_leaves_nothing_that_counts(save: Save, home: Home, tmp_path: Path) -> None:
    file, whole = save(), Home(tmp_path / "whole")
    import_npz(file, whole)
    with subprocess.Popen(
        [sys.executable, str(Path(__file__).with_name("victim.py")), str(file), str(home.root)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as victim:
        assert victim.stdin
        assert victim.stdout
        codes = []
        for k in range(60):
            victim.stdin.write(f"{2 + k % 2}\n")  # each gets a file or two further than the last
            victim.stdin.flush()
            codes.append(int(victim.stdout.readline()))
            if codes[-1] == 0:
                break
            with pytest.raises(StoreError):
                home.find("npz/toys")
        victim.stdin.close()
    assert set(codes[:-1]) == {-signal.SIGKILL}
    assert len(codes) > 10
    assert codes[-1] == 0
    assert home.find().digest == whole.find().digest
    assert shards(home) == shards(whole)
    assert not list(home.root.glob("stores/npz/toys/t*/*/tmp/*"))


def shards(home: Home) -> dict[str, bytes]:
    return {
        str(path.relative_to(home.root)): path.read_bytes() for path in home.root.glob("**/*.h5")
    }


def test_without_text_each_method_that_needs_it_says_so(
    save: Save, home: Home, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from cacheclip.cli.main import main

    import_npz(save(text_features=None), home)
    for method in ("zero-shot", "tip-adapter", "clip-adapter"):
        with pytest.raises(StoreError, match="text features") as caught:
            fit(Request((method,), (2,)), home.find(), home)
        assert "add text_features [C, D] and logit_scale to the file" in caught.value.fix
    words = ["cacheclip", "compare", "--shots", "2", "--seeds", "1", "--home", str(home.root)]
    monkeypatch.setattr(sys, "argv", words)
    with pytest.raises(SystemExit) as done:
        main()
    assert not done.value.code
    shown = capsys.readouterr()
    assert [line.split()[0] for line in shown.out.splitlines()[2:]] == [
        "nearest-mean",
        "linear-probe",
    ]
    for method in ("zero-shot", "tip-adapter", "clip-adapter"):
        (line,) = [line for line in shown.err.splitlines() if "it needs text features" in line]
        assert f"{method}, " in line
    monkeypatch.setattr(sys, "argv", [*words, "--methods", "tip-adapter"])
    with pytest.raises(SystemExit) as stopped:
        main()
    assert stopped.value.code == StoreError.exit_code


def test_no_encoder_predicts_for_a_bundle_of_imported_features(save: Save, home: Home) -> None:
    from cacheclip.inference.pictures import open_encoder

    import_npz(save(), home)
    fitted = fit(Request(("nearest-mean",), (2,)), home.find(), home)
    assert fitted.bundle is not None
    bundle = Bundle.read(fitted.bundle)
    for model in (None, "ViT-B-32-quickgelu"):
        with pytest.raises(InputError, match="fitted on imported features") as caught:
            open_encoder(bundle, model)
        assert "npz/toys" in caught.value.where


def test_the_example_of_the_readme_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = (ROOT / "README.md").read_text().partition("## Anyone's arrays")[2]
    code, commands = re.findall(r"```\w+\n(.*?)```", text, re.DOTALL)[:2]
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CACHECLIP_HOME", str(tmp_path / "home"))
    exec(code, {})
    for command in commands.splitlines():
        done = cacheclip(*shlex.split(command)[1:])
        assert done.code == 0, done.err
    headers, _, row, *_ = (re.split(r"\s{2,}", line) for line in done.out.splitlines())
    assert float(row[headers.index("test %")]) > 90


def test_of_two_imports_at_once_the_second_finds_what_the_first_left(
    save: Save, home: Home, arrays: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As one after the other, though the second begins before the first has written anything."""
    first = save()
    second = save("others.npz", labels=(arrays["labels"] + 1) % 3)
    within, go = threading.Event(), threading.Event()
    split = import_module._Import.split

    def wait(work: Any, *args: Any) -> Path:
        within.set()
        go.wait(30)
        return split(work, *args)

    monkeypatch.setattr(import_module._Import, "split", wait)
    with ThreadPoolExecutor(2) as pool:
        one = pool.submit(import_npz, first, home)
        assert within.wait(30)
        other = pool.submit(import_npz, second, home, "toys")
        time.sleep(0.2)  # it waits for the records by now
        go.set()
        assert one.result().written == len(arrays["labels"])
        with pytest.raises(InputError, match="has other labels or class names"):
            other.result()
    assert list(home.find().labels.splits["train"].labels) == [
        label
        for label, part in zip(arrays["labels"].tolist(), arrays["split"], strict=True)
        if part == "train"
    ]
    assert len(list(home.root.glob("stores/npz/toys/train/*/"))) == 1
