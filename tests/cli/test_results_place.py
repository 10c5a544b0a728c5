"""A home that only others may write to is read, and results go elsewhere."""

import json
import os
import shlex
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

Cli = Callable[[Sequence[str]], Any]

FIT = ["fit", "--method", "nearest-mean", "--shots", "2"]


@pytest.fixture
def read_only(
    world: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., dict[Path, float]]:
    """Deny writing below some folders (root may write anywhere); give the home's files."""

    def deny(*folders: Path) -> dict[Path, float]:
        access = os.access

        def asked(path: Any, mode: int) -> bool:
            closed = any(Path(path).is_relative_to(folder) for folder in folders)
            return access(path, mode) and not (closed and mode & os.W_OK)

        monkeypatch.setattr(os, "access", asked)
        monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "user"))
        return files(world.home)

    return deny


def files(home: Path) -> dict[Path, float]:
    return {path: path.stat().st_mtime for path in home.rglob("*")}


def test_results_of_a_read_only_home_go_to_the_users_own_folder(
    cli: Cli, world: Any, read_only: Callable[..., dict[Path, float]], tmp_path: Path
) -> None:
    before = read_only(world.home)
    own = tmp_path / "user" / "cacheclip"
    fitted = cli([*FIT, "--json"])
    assert fitted.code == 0, fitted.err
    notice = f"the home {world.home} is read-only; results go to {own} (--results chooses)"
    assert notice in fitted.err.splitlines()
    row = json.loads(fitted.out)
    assert Path(row["bundle"]).parent == own / "bundles"
    assert (own / "predictions" / f"{row['row_id']}.npz").exists()
    assert (own / "draws" / f"{row['draw_id']}.json").exists()

    compare = shlex.split("compare --methods nearest-mean --shots 2,3 --seeds 1")
    compared = cli(compare)
    assert compared.code == 0, compared.err
    assert f"results: {own / 'results.jsonl'}" in compared.err
    assert "nothing to run" in cli(compare).err  # it finds its rows there again
    assert files(world.home) == before


def test_results_go_where_they_are_asked_to_go(cli: Cli, world: Any, tmp_path: Path) -> None:
    before = files(world.home)
    there = tmp_path / "my results"
    fitted = cli([*FIT, "--results", str(there)])
    assert fitted.code == 0, fitted.err
    assert "read-only" not in fitted.err
    compared = cli(["compare", "--shots", "2", "--seeds", "1", "--results", str(there)])
    assert compared.code == 0, compared.err
    (step,) = [line for line in compared.err.splitlines() if line.startswith("next: cacheclip fit")]
    again = cli(shlex.split(step)[2:])
    assert again.code == 0, again.err
    assert len(list((there / "bundles").iterdir())) >= 1
    assert files(world.home) == before


def test_a_place_that_cannot_be_written_is_said_before_the_work(
    cli: Cli, world: Any, read_only: Callable[..., dict[Path, float]], tmp_path: Path
) -> None:
    for name in ("closed", "user"):
        (tmp_path / name).mkdir()
    (tmp_path / "file").write_text("")
    for place in (tmp_path / "closed", tmp_path / "file" / "in"):
        read_only(tmp_path / "closed")
        answer = cli([*FIT, "--results", str(place)])
        assert answer.code == 3, answer.err
        assert "results cannot be written there" in answer.err
        assert "stack" not in answer.err
    before = read_only(world.home, tmp_path / "user")
    answer = cli(FIT)
    assert answer.code == 4, answer.err
    assert "add --results FOLDER" in answer.err.splitlines()[-1]
    assert files(world.home) == before
