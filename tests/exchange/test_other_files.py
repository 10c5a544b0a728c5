"""What is no .npz file is named for what it is, with code that makes one; no pickle is opened."""

import csv
import json
import os
import pickle
import shlex
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import safetensors.numpy
import torch

from cacheclip.errors import InputError
from cacheclip.exchange.import_npz import import_npz
from cacheclip.store.home import Home

RANDOM = np.random.default_rng(0)
LABELS = np.repeat(np.arange(3), 6)
FEATURES = (np.eye(3)[LABELS] + RANDOM.normal(size=(18, 3)) / 9).astype(np.float32)
SPLIT = np.array(["train", "train", "test"] * 6)
NAMED: dict[str, Any] = {"features": FEATURES, "labels": LABELS, "split": SPLIT}


class Trap:
    """Unpickled, it leaves a file."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> Any:
        return Path.touch, (self.file,)


def refused(path: Path) -> InputError:
    home = Home(path.parent / "home")
    with pytest.raises(InputError) as caught:
        import_npz(path, home)
    assert not home.root.exists()
    assert "not a .npz file" in caught.value.what
    return caught.value


def write_hdf5(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file["features"], file["labels"] = FEATURES, LABELS
        file["split"] = SPLIT.astype(object)
        file["extra"] = np.ones(3)


def write_csv(path: Path) -> None:
    with path.open("w", newline="") as file:
        rows = csv.writer(file, delimiter="\t" if path.suffix == ".tsv" else ",")
        rows.writerow(["path", *(f"f{k}" for k in range(3)), "Label", "split"])
        for k, row in enumerate(FEATURES.tolist()):
            rows.writerow([f"{k}.jpg", *row, LABELS[k], SPLIT[k]])


def write_pickle(path: Path) -> None:
    path.write_bytes(pickle.dumps(NAMED))


def write_torch(path: Path) -> None:
    tensor = {"features": torch.from_numpy(FEATURES).bfloat16(), "labels": torch.tensor(LABELS)}
    torch.save(tensor | {"split": SPLIT.tolist()}, path)


def write_old_torch(path: Path) -> None:
    content = {"features": torch.from_numpy(FEATURES), "labels": LABELS.tolist()}
    content |= {"split": SPLIT.tolist()}
    torch.save(content, path, _use_new_zipfile_serialization=False)


def plain(x: Any) -> Any:
    return {name: array.tolist() for name, array in x.items()}


def write_lines(path: Path) -> None:
    rows = [dict(zip(NAMED, row, strict=True)) for row in zip(*plain(NAMED).values(), strict=True)]
    path.write_text("\n".join(map(json.dumps, rows)))


FILES: list[tuple[str, Callable[[Path], Any], str]] = [
    ("x.npy", lambda path: np.save(path, FEATURES), "one array without names (.npy)"),
    ("x.pt", write_torch, "a PyTorch file"),
    ("x.pth", write_old_torch, "a PyTorch file"),
    ("x.npz", write_torch, "a PyTorch file"),
    ("x.pkl", write_pickle, "a pickle"),
    ("x.npz", write_pickle, "a pickle"),
    ("x.csv", write_csv, "a table as text (.csv)"),
    ("x.tsv", write_csv, "a table as text (.tsv)"),
    ("x.h5", write_hdf5, "an HDF5 file"),
    ("x.npz", write_hdf5, "an HDF5 file"),
    ("x.mat", lambda path: import_module("scipy.io").savemat(path, NAMED), "a MATLAB file"),
    ("x.json", lambda path: path.write_text(json.dumps(plain(NAMED))), "a JSON file"),
    ("x.jsonl", write_lines, "a file of JSON lines"),
    (
        "x.safetensors",
        lambda path: safetensors.numpy.save_file({"features": FEATURES, "labels": LABELS}, path),
        "a safetensors file",
    ),
]


@pytest.mark.parametrize(("file", "write", "said"), FILES, ids=[f"{f} {s}" for f, _, s in FILES])
def test_the_code_that_is_shown_makes_an_npz_file(
    file: str,
    write: Callable[[Path], Any],
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path / file)
    error = refused(tmp_path / file)
    assert error.what.startswith(f"this is {said}")
    run(error.fix, {"np": np, "labels": LABELS, "split": SPLIT})
    report = import_npz(Path("x.npz"), Home(tmp_path / "home"))
    assert (report.splits, report.classes, report.dim) == ({"train": 12, "test": 6}, 3, 3)


def run(code: str, names: dict[str, Any]) -> None:
    exec(code, names)


def test_columns_and_names_of_their_own_are_shown(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file["clip/embeddings"], file["target"] = FEATURES, LABELS
    assert refused(tmp_path / "x.h5").fix.endswith("# by its own names: target")
    (tmp_path / "x.csv").write_text("a,b\n1,2\n")
    assert refused(tmp_path / "x.csv").fix.endswith("# by its own columns")
    (tmp_path / "x.parquet").write_bytes(b"PAR1 and more")
    assert "pandas.read_parquet" in refused(tmp_path / "x.parquet").fix


def test_a_pickle_is_never_opened(tmp_path: Path) -> None:
    trap = Trap(tmp_path / "sprung")
    for name in ("x.pkl", "x.pt", "x.npz", "x.joblib"):
        (tmp_path / name).write_bytes(pickle.dumps(trap))
        assert "is not loaded" in refused(tmp_path / name).what
    torch.save(trap, tmp_path / "y.pt")
    refused(tmp_path / "y.pt")
    assert not trap.file.exists()
    pickle.loads((tmp_path / "x.pkl").read_bytes())
    assert trap.file.exists()


def test_folders_are_named_for_what_they_hold(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("arrays", "tensors", "photos/ant", "files", "empty"):
        (tmp_path / name).mkdir(parents=True)
    for name, array in NAMED.items():
        np.save(tmp_path / "arrays" / f"{name}.npy", array)
    error = refused(tmp_path / "arrays")
    assert "a folder of .npy files" in error.what
    run(error.fix, {})
    assert import_npz(Path("arrays.npz"), Home(tmp_path / "own")).classes == 3
    write_torch(tmp_path / "tensors" / "cache.pt")
    assert "torch.load" in refused(tmp_path / "tensors").fix
    (tmp_path / "photos" / "ant" / "1.jpg").touch()
    wanted = ["cacheclip", "extract", "--dataset", str(tmp_path / "photos")]
    assert shlex.split(refused(tmp_path / "photos").fix) == wanted
    np.savez(tmp_path / "files" / "x.npz", **NAMED)
    wanted = ["cacheclip", "import", str(tmp_path / "files" / "x.npz")]
    assert shlex.split(refused(tmp_path / "files").fix) == wanted
    assert "np.savez('empty.npz'" in refused(tmp_path / "empty").fix


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "x.npz")
    assert "no regular file" in refused(tmp_path / "x.npz").what
