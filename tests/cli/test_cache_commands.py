"""ls, info, rm and prune on a home that extract made."""

import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

Cli = Callable[[Sequence[str]], Any]


@pytest.fixture
def copied(world: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give a home of one's own, to break."""
    monkeypatch.setenv("CACHECLIP_HOME", str(world.home))
    shutil.copytree(world.home, tmp_path / "copy")
    return tmp_path / "copy"


def test_ls_has_a_line_a_set_and_stores_on_request(cli: Cli, copied: Path) -> None:
    home = ["--home", str(copied)]
    brief = cli(["ls", *home])
    assert brief.code == 0, brief.err
    (line,) = brief.out.splitlines()[2:]
    assert line.startswith("folder/colours  local-dir:tiny")
    assert "27/9/9" in line
    assert "27/9/9  text  " in line
    assert line.endswith("complete, extracted last")
    verbose = cli(["ls", "-v", *home])
    assert len(verbose.out.splitlines()) == 2 + 8
    listed = json.loads(cli(["ls", "--json", *home]).out)
    assert len(listed) == 8
    assert {"dataset", "split", "layer", "shards_done", "path"} <= set(listed[0])

    (done,) = copied.glob("stores/folder/colours/test/image-*/done.json")
    done.unlink()
    shutil.rmtree(done.with_name("done"))
    answer = cli(["ls", *home])
    assert "incomplete, 5 of 6 shards" in answer.out
    assert "is incomplete, 5 of 6 shards; next: cacheclip extract --dataset" in answer.err
    assert answer.err.splitlines()[0].endswith(f"--home {copied}")


def test_rm_lists_refuses_to_guess_and_deletes(cli: Cli, copied: Path) -> None:
    home = ["--home", str(copied)]
    dry = cli(["rm", "colours", "--dry-run", "--json", *home])
    assert dry.code == 0, dry.err
    listed = json.loads(dry.out)
    assert sum(part["why"] == "features" for part in listed) == 6
    assert all(Path(part["path"]).exists() for part in listed)
    unasked = cli(["rm", "colours", *home])  # stdin is no terminal here
    assert unasked.code == 2, unasked.err
    assert "--yes" in unasked.err.splitlines()[-1]
    assert (copied / "stores" / "folder" / "colours").exists()
    (copied / "bundles").mkdir(exist_ok=True)
    gone = cli(["rm", "colours", "--yes", *home])
    assert gone.code == 0, gone.err
    assert "its rows, predictions and bundles stay" in gone.err
    assert not (copied / "stores" / "folder").exists()
    assert (copied / "bundles").exists()
    absent = cli(["rm", "colours", "--yes", *home])
    assert absent.code == 4
    assert absent.err.splitlines()[-1].startswith("fix: cacheclip ls")


def test_prune_frees_what_a_changed_folder_left(
    cli: Cli, world: Any, copied: Path, tmp_path: Path
) -> None:
    home = ["--home", str(copied)]
    assert "deleted 0.0 MB" in cli(["prune", *home]).err
    pictures = tmp_path / "colours"
    shutil.copytree(world.pictures, pictures)
    (pictures / "red" / "00.png").unlink()
    for file in copied.glob("stores/**/key.json"):  # as if begun on another day
        file.write_text(file.read_text().replace('"created": "20', '"created": "19'))
    extract = ["extract", "--dataset", str(pictures), "--model", world.model, *home]
    for _ in range(2):
        (copied / "extractions.jsonl").write_text(
            (copied / "extractions.jsonl").read_text().replace(str(world.pictures), str(pictures))
        )
        made = cli(extract)
        assert made.code == 0, made.err
    assert "cacheclip prune" in cli(["ls", *home]).err
    dry = json.loads(cli(["prune", "--dry-run", "--json", *home]).out)
    assert "earlier pictures" in {part["why"] for part in dry}
    done = cli(["prune", *home])
    assert done.code == 0, done.err
    assert not any(Path(part["path"]).exists() for part in dry)
    assert json.loads(cli(["prune", "--json", *home]).out) == []
    assert cli(["fit", "--method", "nearest-mean", "--shots", "2", *home]).code == 0
    assert json.loads(cli([*extract, "--json"]).out)["encoded"] == 0


def test_info_lists_near_duplicates_on_request(cli: Cli) -> None:
    plain = json.loads(cli(["info", "colours", "--json"]).out)
    assert "near_duplicates" not in plain
    found = json.loads(cli(["info", "colours", "--near-duplicates", "--json"]).out)
    assert found["near_duplicates"]["cosine"] == 0.99
    assert found["splits"] == plain["splits"]
    listed = cli(["info", "colours", "--near-duplicates", "0.0001"])
    assert listed.code == 0, listed.err
    assert listed.out.splitlines()[0].split()[0] == "picture"
    assert "pairs across splits or classes with a cosine of 0.0001 or more" in listed.err
    wrong = cli(["info", "colours", "--near-duplicates", "2"])
    assert wrong.code == 3


def test_extract_counts_pictures_without_features_apart(
    cli: Cli, world: Any, tmp_path: Path
) -> None:
    pictures = tmp_path / "mine"
    shutil.copytree(world.pictures, pictures)
    (pictures / "red" / "01.png").write_bytes(b"no picture")
    extract = ["extract", "--dataset", str(pictures), "--model", world.model]
    extract += ["--home", str(tmp_path / "h")]
    assert "44 pictures encoded, 0 were there, 1 failed" in cli(extract).out
    assert "0 pictures encoded, 44 were there, 1 failed" in cli(extract).out
