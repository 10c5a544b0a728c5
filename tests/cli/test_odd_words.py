"""Words on the command line that are empty, or would steer a terminal."""

from pathlib import Path

import pytest

from cacheclip.cli import main, output
from cacheclip.errors import InputError
from cacheclip.extraction.plan import allowed_failures
from cacheclip.store.home import Home


def ran(
    words: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> tuple[int, str]:
    """The exit code of a command and what it said."""
    monkeypatch.setattr("sys.argv", ["cacheclip", *words])
    with pytest.raises(SystemExit) as stopped:
        main.main()
    told = capsys.readouterr()
    return int(str(stopped.value.code)), told.out + told.err


@pytest.mark.parametrize(
    "words",
    [
        ["ls", "--home", ""],
        ["fit", "--out", ""],
        ["fit", "--results", ""],
        ["extract", "--dataset", "digits", "--data-root", ""],
        ["extract", "--dataset", "digits", "--classnames", ""],
        ["predict", "", "x.png"],
        ["predict", "b.safetensors", ""],
        ["import", ""],
    ],
)
def test_an_empty_path_is_not_the_current_folder(
    words: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    code, said = ran(words, monkeypatch, capsys)
    assert code == 2
    assert [line.split(":")[0] for line in said.splitlines()] == ["error", "where", "fix"]
    assert "is an empty name" in said
    assert not list(tmp_path.iterdir())


def test_an_empty_variable_is_no_home(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CACHECLIP_HOME", "")
    with pytest.raises(InputError, match="the home has no name") as caught:
        Home.resolve()
    assert caught.value.where == "$CACHECLIP_HOME"
    with pytest.raises(InputError, match="the home has no name"):
        Home.resolve("")


@pytest.mark.parametrize(
    "told", ["nan%", "inf%", "-1", "-5%", "101%", "", "%", "nan", "1e400", "9" * 5000]
)
def test_no_number_of_failures_is_refused(told: str) -> None:
    with pytest.raises(InputError, match="neither a count nor a share"):
        allowed_failures(told, rows=100, builtin=False)


def test_a_usage_error_spells_out_what_would_steer_a_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    code, said = ran(["ls", "a\x07\x9b31m\u202e\udcffb"], monkeypatch, capsys)
    assert code == 2
    assert "a\\x07\\x9b31m\\u202e\\udcffb" in said


def test_a_table_with_commas_is_plain_on_a_terminal_and_whole_in_a_pipe(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    output.text("a\x1b[5m,b\n")
    monkeypatch.setattr("sys.stdout.isatty", lambda: False)
    output.text("a\x1b[5m,b\n")
    # click takes colours out of what goes into a pipe; what is left is as it was.
    assert capsys.readouterr().out.splitlines()[0] == "a\\x1b[5m,b"
