"""The command line that a feature set names is the one that made it."""

import shlex
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner

from cacheclip.cli.main import cacheclip
from cacheclip.errors import InputError
from cacheclip.extraction.plan import ExtractRequest
from cacheclip.extraction.run import run
from cacheclip.store.home import Home

Asked = Callable[..., ExtractRequest]
Painter = Callable[[Path, int], None]


def test_the_command_makes_the_same_set_from_another_folder(
    asked: Asked, pets: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (pets / "cat" / "001.png").write_bytes(b"no picture")
    here = pets.rename(tmp_path / "two words")
    (tmp_path / "my templates.txt").write_text("a drawing of a {}")
    monkeypatch.chdir(tmp_path)
    told = {"hash_files": True, "max_failures": "2%", "template": "my templates.txt"}
    request = asked("two words", alias="pets", rows_per_shard=16, batch_size=4, **told)
    first = run(request, Home.resolve("my home"))
    found = Home.resolve("my home").find()
    assert found.text is not None
    (tmp_path / "away").mkdir()
    monkeypatch.chdir(tmp_path / "away")

    words = shlex.split(found.extract_command)
    for option, value in {
        "--dataset": str(here),
        "--name": "pets",
        "--template": str(tmp_path / "my templates.txt"),
        "--home": str(tmp_path / "my home"),
        "--max-failures": "2%",
        "--batch-size": "4",
        "--rows-per-shard": "16",
    }.items():
        assert words[words.index(option) + 1] == value
    elsewhere = tmp_path / "new home"
    words[words.index("--home") + 1] = str(elsewhere)
    done = CliRunner().invoke(cacheclip, words[1:])
    assert done.exception is None, done.output
    again = Home(elsewhere).find()
    assert again.digest == first.set_digest
    assert again.text is not None
    assert again.text.digest == found.text.digest
    assert {place: store.digest for place, store in again.images.items()} == {
        place: store.digest for place, store in found.images.items()
    }


def test_the_fix_of_too_many_failures_is_the_whole_command(
    asked: Asked, pets: Path, tmp_path: Path
) -> None:
    for number in (1, 3):
        (pets / "cat" / f"00{number}.png").write_bytes(b"no picture")
    home = Home.resolve(tmp_path / "home")
    with pytest.raises(InputError, match="2 of 60 pictures failed, 1 may") as caught:
        run(asked(pets), home)
    command, _, _ = caught.value.fix.partition(" allows them")
    done = CliRunner().invoke(cacheclip, shlex.split(command)[1:])
    assert done.exception is None, done.output
    assert home.find().extract_command == command


def test_classes_too_small_for_three_splits_are_counted(
    asked: Asked, paint: Painter, tmp_path: Path
) -> None:
    for number in range(4):
        paint(tmp_path / "few" / f"c{number % 2}" / f"{number}.png", number)
    with pytest.raises(InputError, match="no pictures: a class needs at least 3") as caught:
        run(asked(tmp_path / "few"), Home(tmp_path / "home"))
    assert "2 of 2 have fewer: c0 2, c1 2" in caught.value.what


def test_a_moved_folder_is_named_where_it_is_now(asked: Asked, pets: Path, tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    run(asked(pets, max_failures="3"), home)
    moved = pets.rename(tmp_path / "moved")
    assert run(asked(moved, alias="pets", max_failures="5"), home).encoded == 0
    found = home.find()
    assert found.text is not None
    for command in (found.extract_command, found.text.header.extract_command):
        assert f"--dataset {moved} --name pets " in command
        assert command.endswith(" --max-failures 5")
