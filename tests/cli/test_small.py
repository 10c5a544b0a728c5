"""What holds for every command: full streams, errors for machines, near names, what is replaced."""

import json
import os
import shlex
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cacheclip.results import LOG

Cli = Callable[[Sequence[str]], Any]

pytestmark = pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")


def piped(words: str, world: Any) -> subprocess.CompletedProcess[str]:
    """A command with its streams led elsewhere, as a shell runs it."""
    return subprocess.run(
        ["bash", "-c", f"{shlex.quote(sys.executable)} -m cacheclip {words}"],
        env=os.environ | {"CACHECLIP_HOME": str(world.home)},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("words", ["ls", "ls --json", "fit --help", "methods", "info"])
def test_a_full_stdout_is_three_lines_and_a_code(words: str, world: Any) -> None:
    done = piped(f"{words} > /dev/full", world)
    assert done.returncode == 4
    assert [line.split(":")[0] for line in done.stderr.splitlines()[-3:]] == [
        *("error", "where", "fix"),
    ]
    assert "the answer could not be printed: No space left on device" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_full_stdout_loses_no_row_and_no_bundle(world: Any, tmp_path: Path) -> None:
    out = tmp_path / "b.safetensors"
    fit = f"fit --method nearest-mean --shots 3 --out {shlex.quote(str(out))}"
    rows = (world.home / LOG).read_text().count("\n") if (world.home / LOG).exists() else 0
    done = piped(f"{fit} > /dev/full", world)
    assert done.returncode == 4
    assert out.exists()
    assert f"bundle: {out}" in done.stderr  # what comes after the table is still said
    assert (world.home / LOG).read_text().count("\n") == rows + 1


def test_a_full_stderr_does_not_cost_the_answer(world: Any, tmp_path: Path) -> None:
    features, labels = np.eye(4, dtype=np.float32), np.array([0, 1, 0, 1])
    split = np.array(["train", "train", "test", "test"])
    np.savez(tmp_path / "x.npz", features=features, labels=labels, split=split)
    words = shlex.join(["import", str(tmp_path / "x.npz"), "--home", str(tmp_path / "home")])
    done = piped(f"{words} 2> /dev/full", world)
    assert done.returncode == 0
    assert "4 rows written" in done.stdout


def test_a_closed_stdout_is_quiet(world: Any) -> None:
    done = piped("ls >&-", world)
    assert (done.returncode, "Traceback" in done.stderr) == (0, False)


def test_streams_that_are_closed_or_full_are_quiet_and_keep_the_code(world: Any) -> None:
    command = f"{shlex.quote(sys.executable)} -m cacheclip"
    ends = [
        ("ls >&- 2>&- <&-", 0),
        ("fit --method nearest-mean --shots 1 --select fixed >&- 2>&-", 0),
        ("ls --bad 2> /dev/full", 2),
        ("fit --dataset none 2> /dev/full", 4),
        ("fit --help > /dev/full 2> /dev/full", 4),
        ("predict none.safetensors - <&- 2>&-", 3),
    ]
    lines = "; ".join(f"{command} {words}; echo $? >&3" for words, _ in ends)
    done = piped(f"ls > /dev/null; exec 3>&1; {lines}", world)
    assert [int(code) for code in done.stdout.split()] == [code for _, code in ends]
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        ("fit --dataset colors --json", 4, "--dataset folder/colours"),
        ("fit --method tip --json", 2, "tip-adapter"),
        ("fit --shot 4 --json", 2, "cacheclip fit --help"),
        ("compare --shots x --json", 2, "cacheclip compare --help"),
        ("predict absent.safetensors x.png --json", 3, "cacheclip fit"),
        ("extract --dataset clipartt --json", 2, "did you mean clipart?"),
    ],
)
def test_an_error_under_json_is_an_object_on_stdout_too(
    words: str, code: int, said: str, cli: Cli
) -> None:
    answer = cli(words.split())
    assert answer.code == code
    error = json.loads(answer.out)["error"]
    assert set(error) == {"what", "where", "fix", "exit_code"}
    assert error["exit_code"] == code
    assert error["what"] in answer.err
    assert said in error["fix"]


def test_without_json_stdout_stays_empty_and_bench_writes_a_file(cli: Cli, tmp_path: Path) -> None:
    assert cli(["fit", "--method", "tip"]).out == ""
    (tmp_path / "mine.json").write_text("[1]")
    answer = cli(["bench", "--json", str(tmp_path / "mine.json")])
    assert (answer.code, answer.out) == (3, "")
    assert (tmp_path / "mine.json").read_text() == "[1]"
    (tmp_path / "photo.png").write_bytes(b"\x89PNG")
    answer = cli(["bench", "--plot", str(tmp_path / "photo.png")])
    assert (answer.code, "not written by this command" in answer.err) == (3, True)


@pytest.mark.parametrize(
    ("words", "near"),
    [
        ("extrat", "did you mean extract?"),
        ("fit --method clipadapter", "did you mean clip-adapter"),
        ("fit --select few-shot-val", "did you mean fewshot-val?"),
        ("fit --method clip-adapter --recipe as-papr", "did you mean as-paper?"),
        ("fit --method clip-adapter --set alpa=1", "did you mean --set alpha=1?"),
        ("compare --methods tip-adapter --set tip-adaptr.beta=0.5", "--set tip-adapter.beta=0.5?"),
        ("fit --method clip-adapter --set optimizer=adm", "did you mean --set optimizer=adam or"),
        ("fit --dataset colour", "did you mean --dataset folder/colours?"),
        ("extract --dataset clipart --template foto", "did you mean --template photo?"),
    ],
)
def test_a_name_that_is_not_known_is_answered_with_the_near_ones(
    words: str, near: str, cli: Cli
) -> None:
    answer = cli(words.split())
    assert answer.code in (2, 3, 4)
    assert near in answer.err


def test_a_folder_that_is_not_there_is_answered_with_its_neighbour(
    cli: Cli, world: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(world.pictures.parent)
    answer = cli(["extract", "--dataset", "./colors"])
    assert (answer.code, "did you mean colours?" in answer.err) == (3, True)


@pytest.mark.parametrize("name", ["photo.png", "notes", "weights.safetensors"])
def test_fit_replaces_bundles_alone(name: str, cli: Cli, tmp_path: Path) -> None:
    file = tmp_path / name
    file.write_bytes(b"dear to somebody")
    answer = cli(["fit", "--method", "nearest-mean", "--shots", "1", "--out", str(file)])
    assert (answer.code, "cannot write there" in answer.err) == (3, True)
    assert file.read_bytes() == b"dear to somebody"
    assert list(tmp_path.iterdir()) == [file]


def test_fit_replaces_its_own_bundle(cli: Cli, tmp_path: Path) -> None:
    fit = ["fit", "--method", "nearest-mean", "--shots", "1", "--out", str(tmp_path / "b")]
    fit[-1] += ".safetensors"
    assert cli(fit).code == 0
    first = (tmp_path / "b.safetensors").read_bytes()
    assert cli([*fit, "--seed", "2"]).code == 0
    assert (tmp_path / "b.safetensors").read_bytes() != first


def test_control_characters_of_a_name_are_spelled_out(cli: Cli, tmp_path: Path) -> None:
    evil = tmp_path / "e\x1b]0;pwned\x07\n.safetensors"
    answer = cli(["predict", str(evil), "x.png"])
    assert answer.code == 3
    assert "\x1b" not in answer.err
    assert r"e\x1b]0;pwned\x07\n.safetensors" in answer.err
    assert len(answer.err.splitlines()) == 3


def test_methods_lists_all_and_shows_the_settings_of_one(cli: Cli) -> None:
    from cacheclip.methods import base, names

    listed = json.loads(cli(["methods", "--json"]).out)
    assert [entry["name"] for entry in listed] == names()
    for entry in listed:
        method = base.get(entry["name"])
        assert entry["paper"] == method.paper
        reads, words = method().reads, entry["reads"].split(", ")
        of_templates = [
            name for name in reads.text if name.partition(":")[0] not in ("cupl", "tokens")
        ]
        assert ("text" in words) == bool(of_templates)
        assert ("sentences" in words) == any(name.startswith("cupl:") for name in reads.text)
        forms = [{n: word} for n, own in method.table.items() if own.static for word in own.words]
        towered = any("tower" in method(**form).reads.encoder for form in [{}, *forms])
        assert ("text tower" in words) == towered
        assert ("patches" in words) == ("patches" in reads.query)
        assert ("second encoder" in words) == (entry["name"] in ("amu", "gp"))
        assert ("pictures" in words) == (method.learns == "support")
        assert entry["trains"] == getattr(method, "size", "")
        assert (entry["fitted"] == "training") == issubclass(method, base.Trained)
        assert entry["setting"] == method.setting
    (shown,) = json.loads(cli(["methods", "clip-adapter", "--json"]).out)
    assert [s["name"] for s in shown["settings"]] == list(base.get("clip-adapter").table)
    assert set(shown["recipes"]) == {"as-code", "as-paper"}
    assert "from 0 to 1, learned" in cli(["methods", "clip-adapter"]).out
    for command in ("fit", "compare"):
        shown = " ".join(cli([command, "--help"]).out.split()).replace("- ", "-")
        assert "linear-probe" in shown
        assert "cacheclip methods" in shown


@pytest.mark.parametrize(
    ("command", "said"), [("compare", "goes on"), ("fit", "begins anew"), ("ls", "interrupted\n")]
)
def test_an_interrupt_says_what_becomes_of_the_work(
    command: str, said: str, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("cacheclip.store.home.Home.resolve", stop)
    answer = cli([command])
    assert (answer.code, said in answer.err) == (130, True)


def test_a_comparison_of_which_some_went_well_is_no_failure(cli: Cli) -> None:
    words = "compare --methods clip-adapter --shots 2 --seeds 1 --select fixed --set epochs=4"
    some = cli(shlex.split(f"{words} --set lr=0.01,1e38 --on-existing redo"))
    assert (some.code, "1 of " in some.err, "not finite" in some.err) == (0, True, True)
    none = cli(shlex.split(f"{words} --set lr=1e38 --on-existing redo"))
    assert (none.code, "not finite" in none.err) == (7, True)


def test_the_advice_of_doctor_is_for_the_home_that_was_looked_at(cli: Cli, tmp_path: Path) -> None:
    found = json.loads(cli(["doctor", "--json", "--home", str(tmp_path)]).out)
    (home,) = [entry for entry in found if entry["name"] == "home"]
    assert home["advice"] == f"cacheclip extract --dataset clipart --home {tmp_path}"
