"""Files that a user names: what is opened, how much is read, and how deep."""

import os
import subprocess
from pathlib import Path

import pytest

from cacheclip.errors import InputError
from cacheclip.files import regular


def test_what_is_no_regular_file_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "zero").symlink_to("/dev/zero")
    for path in (tmp_path, tmp_path / "pipe", tmp_path / "zero"):
        with pytest.raises(regular.IrregularError):
            regular.read_text(path)


def test_a_file_of_more_than_people_write_is_not_read(tmp_path: Path) -> None:
    with (tmp_path / "sparse.json").open("wb") as file:
        file.truncate(60 * 10**9)
    with pytest.raises(ValueError, match=r"60,000,000,000 bytes, limit 268,435,456"):
        regular.read_text(tmp_path / "sparse.json")


@pytest.mark.parametrize(
    "text", ["[" * 100_000, '{"a":' * 100_000, '["\\ud800"]', "[" + "9" * 5000]
)
def test_json_that_would_not_end_well_is_a_plain_error(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        regular.parsed(text)


def test_an_unknown_user_is_a_folder_of_that_name() -> None:
    assert regular.expanded("~nobody-of-this-name/x") == Path("~nobody-of-this-name/x")


def test_a_path_that_is_no_text_is_refused_with_the_command_that_renames_it(
    tmp_path: Path,
) -> None:
    folder = tmp_path / os.fsdecode(b"f\xff'")
    (folder / "below").mkdir(parents=True)
    regular.refuse_no_text(tmp_path)
    with pytest.raises(InputError, match="not UTF-8") as caught:
        regular.refuse_no_text(folder / "below")
    subprocess.run(["bash", "-c", caught.value.fix], check=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["f_ff'"]
