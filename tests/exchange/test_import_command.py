"""`cacheclip import` and what it says to do next, as a person runs it."""

import re
import shlex
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cacheclip.cli.main import main
from cacheclip.exchange.source import KNOWN
from cacheclip.results import LOG
from cacheclip.store.home import Home

Save = Callable[..., Path]


@dataclass(frozen=True)
class Answer:
    code: int
    out: str
    err: str

    @property
    def next(self) -> str:
        """The command after `next: `."""
        (line,) = [one for one in self.err.splitlines() if one.startswith("next: ")]
        return line.removeprefix("next: cacheclip ")

    @property
    def fix(self) -> str:
        """The command in the line of the fix."""
        (line,) = [one for one in self.err.splitlines() if one.startswith("fix: ")]
        return line.partition("cacheclip ")[2]


@pytest.fixture
def cli(
    home: Home,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Callable[[str], Answer]:
    """Run a command line in this process, in a home of its own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CACHECLIP_HOME", str(home.root))

    def run(words: str) -> Answer:
        monkeypatch.setattr(sys, "argv", ["cacheclip", *shlex.split(words)])
        code = 0
        try:
            main()
        except SystemExit as stop:
            code = int(stop.code or 0)
        shown = capsys.readouterr()
        return Answer(code, shown.out, shown.err)

    return run


Cli = Callable[[str], Answer]


def test_text_for_more_classes_than_there_are_pictures_serves_zero_shot(
    arrays: dict[str, Any], save: Save, cli: Cli, home: Home
) -> None:
    random = np.random.default_rng(1)
    more = np.vstack([arrays["text_features"], random.normal(size=(4, 8)).astype(np.float32)])
    names = np.array([*"abcdefg"])
    save(text_features=more, classnames=names)
    answer = cli("import toys.npz")
    assert answer.code == 0
    assert "4 of 7 classes have no row of split train; methods that learn need one: d, e" in (
        answer.err
    )
    assert answer.next == "compare --methods zero-shot"
    compared = cli(answer.next)
    assert compared.code == 0
    assert "failed" not in compared.err
    assert [line.split()[0] for line in compared.out.splitlines()[2:]] == ["zero-shot"]
    predicted = np.load(next(home.root.glob("predictions/*.npz")))["predicted"]
    assert predicted.max() > 2
    refused = cli("fit --method nearest-mean --shots 2 --select fixed")
    assert refused.code == 3
    assert "d 0, e 0, f 0, g 0" in refused.err


def test_zero_shot_alone_is_no_reason_to_draw(arrays: dict[str, Any], save: Save, cli: Cli) -> None:
    rows = np.flatnonzero(arrays["split"] == "train")
    save(draw_1_4=rows[:12])
    assert cli("import toys.npz").next == "compare --shots 4 --seeds 1"
    answer = cli("compare --methods zero-shot")
    assert answer.code == 0
    assert "failed" not in answer.err
    shown = cli("compare --methods zero-shot --shots 4 --seeds 1").out.splitlines()
    assert [line.split()[0] for line in shown[2:]] == ["zero-shot", "nearest-mean"]


def test_draws_of_our_own_are_asked_for_in_what_comes_next(
    arrays: dict[str, Any], save: Save, cli: Cli
) -> None:
    rows = np.flatnonzero(arrays["split"] == "train")
    save(draw_1_4=rows[:12])
    assert cli("import toys.npz").code == 0
    assert "draw_1_4" in cli("info toys").out
    answer = cli("compare --methods nearest-mean --shots 2 --seeds 1")
    assert answer.code == 3
    assert cli(answer.fix).code == 0
    answer = cli("compare --methods nearest-mean --shots 2 --seeds 1 --draw ranked")
    assert answer.code == 0
    assert " --draw ranked" in answer.next
    assert cli(answer.next).code == 0


def test_draws_go_with_their_set(arrays: dict[str, Any], save: Save, cli: Cli, home: Home) -> None:
    rows = np.flatnonzero(arrays["split"] == "train")
    save(draw_1_4=rows[:12])
    assert cli("import toys.npz").code == 0
    assert cli("rm toys --yes").code == 0
    assert not [path for path in home.root.glob("stores/**/*") if path.is_file()]
    save(sample_ids=arrays["sample_ids"][::-1])
    assert cli("import toys.npz").next == "compare --shots 6"


def test_without_text_no_class_may_lack_training_rows(
    arrays: dict[str, Any], save: Save, cli: Cli
) -> None:
    save(labels=np.minimum(arrays["labels"], 1), text_features=None)
    assert "1 of 3 classes have no row of split train: cow" in cli("import toys.npz").err


def test_the_scale_of_the_text_can_be_given(save: Save, cli: Cli, home: Home) -> None:
    save(logit_scale=None)
    answer = cli("import toys.npz")
    assert answer.code == 3
    assert cli(answer.fix).code == 0
    found = home.find()
    assert found.encoder["logit_scale"] == 100.0
    assert shlex.split(found.extract_command)[-2:] == ["--logit-scale", "100.0"]
    assert cli(found.extract_command.removeprefix("cacheclip ")).code == 0
    assert home.find().digest == found.digest


def test_a_scale_that_is_given_twice_must_be_one(save: Save, cli: Cli, home: Home) -> None:
    save(logit_scale=50.0)
    assert cli("import toys.npz --logit-scale 50").code == 0
    answer = cli("import toys.npz --logit-scale 100")
    assert answer.code == 3
    assert "--logit-scale is 100, and logit_scale in the file 50" in answer.err
    assert cli(answer.fix).code == 0
    save(logit_scale=None)
    answer = cli("import toys.npz --name other --logit-scale 4.60517")
    assert answer.code == 3
    assert "exp(4.605) = 100.0" in answer.err
    assert cli(answer.fix).code == 0
    assert home.find("other").encoder["logit_scale"] == pytest.approx(100)


@pytest.mark.parametrize(
    "name", ["a/b", "npz/a", "-x", "--json", "a,b", "", " a", ".", "..", "_a", "a\nb", "a" * 201]
)
def test_a_name_that_cannot_be_looked_up_is_refused_at_once(
    name: str, save: Save, cli: Cli, home: Home
) -> None:
    save()
    answer = cli(f"import toys.npz --name={shlex.quote(name)}")
    assert answer.code == 3
    assert "cannot be the name of a data set" in answer.err
    assert not home.root.exists()


def test_a_file_that_cannot_lend_its_name_gets_one(save: Save, cli: Cli, home: Home) -> None:
    save("clip,features=(2).npz")
    answer = cli("import clip,features=(2).npz".replace("(2)", "'(2)'"))
    assert answer.code == 3
    assert cli(answer.fix).code == 0
    assert home.find("clip-features-(2").dataset == "npz/clip-features-(2"


def test_data_sets_given_twice_are_both_compared(save: Save, cli: Cli, home: Home) -> None:
    for name in ("one", "two", "three"):
        save(f"{name}.npz", features=np.random.default_rng(len(name)).normal(size=(36, 8)))
        assert cli(f"import {name}.npz").code == 0
    answer = cli("compare --dataset one,two --dataset three --methods zero-shot --shots 1")
    assert answer.code == 0
    assert [line for line in answer.out.splitlines() if line.startswith("npz/")] == [
        "npz/one",
        "npz/two",
        "npz/three",
    ]
    assert (home.root / LOG).exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("fit --dataset one --dataset two", "--dataset takes one value and was given 2 times"),
        ("fit --shots 1 --seed 2 --seed=3", "--seed takes one value and was given 2 times"),
        ("compare --shots 1 --shots 4", "was given 2 times; several go in one, with commas"),
        ("extract --dataset a --dataset b", "--dataset takes one value"),
        ("info --model a --model b --model c", "--model takes one value and was given 3 times"),
        ("import a.npz --name a --name b", "--name takes one value"),
    ],
)
def test_an_option_of_one_value_is_not_given_two(words: str, said: str, cli: Cli) -> None:
    answer = cli(words)
    assert answer.code == 2
    assert said in answer.err.splitlines()[-1]


def test_flags_and_repeatable_options_may_stand_twice(save: Save, cli: Cli) -> None:
    save()
    assert cli("import toys.npz --json --json").code == 0
    answer = cli(
        "compare --methods tip-adapter --shots 1 --seeds 1 --set alpha=1 --set beta=2 -v -v "
        "--select fixed"
    )
    assert answer.code == 0


def test_the_example_of_the_document_runs(cli: Cli, home: Home) -> None:
    text = (Path(__file__).resolve().parents[2] / "docs" / "arrays.md").read_text()
    code, commands = re.findall(r"```\w+\n(.*?)```", text, re.DOTALL)
    exec(code, {})
    for command in commands.splitlines():
        answer = cli(command.removeprefix("cacheclip "))
        assert answer.code == 0, answer.err
    assert "draws as given with npz/birds" in answer.err
    for name in (*KNOWN, "draw_SEED_K"):
        assert f"| `{name}` |" in text
