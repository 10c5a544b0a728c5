"""Rows of the log are taken again only if they prove themselves; nobody makes them twice."""

import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cacheclip import answers
from cacheclip.answers import predictions
from cacheclip.errors import StoreError, UsageError
from cacheclip.results import LOG, Row
from cacheclip.select import base as policies
from cacheclip.store.home import Home
from cacheclip.study.compare import Comparison, Request

ASKED = Request(("nearest-mean",), (1, 2), (1, 2), select="fixed")


def ran(home: Home, request: Request = ASKED) -> tuple[list[Row], list[str], int]:
    """The rows, what was said, and how many were there already."""
    comparison = Comparison(request, home.find(), home)
    said = list(comparison.notices)
    for _ in comparison.run(notice=said.append):
        pass
    return comparison.rows, said, comparison.reused


def logged(home: Home) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (home.root / LOG).read_text().splitlines()]


def written(home: Home, lines: list[dict[str, Any]]) -> None:
    (home.root / LOG).write_text("".join(f"{json.dumps(line)}\n" for line in lines))


def of_today(line: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """A line from before there was a digest, a format, or a digest of the predictions."""
    new = ("digest", "format", "predictions")
    return {name: x for name, x in line.items() if name not in new} | changes


def results_of(rows: list[Row]) -> list[float | None]:
    return [row.top1_test for row in rows]


def test_rows_of_another_rule_of_choice_are_made_again(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen = Request(("linear-probe",), (1,), (1, 2), select="fewshot-val")
    with monkeypatch.context() as patch:
        patch.setattr(policies, "VERSION", 1)
        old, _, _ = ran(home, chosen)
        constant, _, _ = ran(home)
    new, _, reused = ran(home, chosen)
    assert reused == 0
    assert {row.row_id for row in old}.isdisjoint(row.row_id for row in new)
    assert ran(home)[2] == len(constant)  # a rule decides nothing where nothing is chosen


def test_rows_with_and_without_a_digest_are_taken(home: Home) -> None:
    first, _, _ = ran(home)
    assert all(row.predictions for row in first)
    again, said, reused = ran(home)
    assert (again, said, reused) == (first, [], 4)
    written(home, [of_today(line) for line in logged(home)])
    old, said, reused = ran(home)
    assert (results_of(old), said, reused) == (results_of(first), [], 4)


WRONG: dict[str, Any] = {
    "above 1": {"top1_test": 7.5},
    "not a number": {"top1_test": float("nan")},
    "endless": {"top1_test": float("inf")},
    "a text": {"top1_test": "high"},
    "settings in a list": {"hparams": [1]},
    "no test pictures": {"n_test": 0},
    "too many digits": {"n_val": 10**400},
    "not its predictions'": {"top1_test": 0.123},
}


@pytest.mark.parametrize("changes", WRONG.values(), ids=list(WRONG))
def test_a_line_that_is_no_row_is_made_again_and_that_is_said(
    home: Home, changes: dict[str, Any]
) -> None:
    first, _, _ = ran(home)
    lines = logged(home)
    written(home, [of_today(lines[0], **changes), *lines[1:]])
    again, said, reused = ran(home)
    assert (results_of(again), reused) == (results_of(first), 3)
    assert len(said) == 1
    assert "1 line cannot be read" in said[0] or "1 row is made again" in said[0]


@pytest.mark.parametrize(
    "line", [b"\xff\xfe\n", b"[1]\n", b"{}\n", b'{"row_id": "', b'{"a":' + 10**5 * b"[" + b"\n"]
)
def test_a_line_of_anything_is_left_out_and_said_once(home: Home, line: bytes) -> None:
    first, _, _ = ran(home)
    with (home.root / LOG).open("ab") as log:
        log.write(line)
    again, said, reused = ran(home)
    assert (again, reused) == (first, 4)
    assert said == ["results.jsonl: 1 line cannot be read and is left out"]


def test_a_digit_that_flips_in_a_line_is_found(home: Home) -> None:
    first, _, _ = ran(home)
    (home.root / LOG).write_text(
        (home.root / LOG).read_text().replace('"seconds": 0.', '"seconds": 1.')
    )
    again, said, reused = ran(home)
    assert (results_of(again), reused) == (results_of(first), 0)
    assert said == ["results.jsonl: 4 lines cannot be read and are left out"]


@pytest.mark.parametrize("make", [Path.mkdir, lambda path: path.symlink_to("/dev/null")])
def test_a_log_that_is_no_file_is_said_before_anything_runs(
    home: Home, make: Callable[[Path], None]
) -> None:
    make(home.root / LOG)
    with pytest.raises(StoreError, match="this log is not a regular file"):
        Comparison(ASKED, home.find(), home)


def test_a_row_of_a_newer_version_is_refused(home: Home) -> None:
    ran(home)
    written(home, [{**of_today(line), "format": 2} for line in logged(home)])
    with pytest.raises(StoreError, match="newer cacheclip"):
        Comparison(ASKED, home.find(), home)


def spoil(path: Path) -> None:
    """Flip a bit of every byte in the middle of a file."""
    whole = path.read_bytes()
    part = slice(len(whole) // 4, 3 * len(whole) // 4)
    path.write_bytes(whole[: part.start] + bytes(x ^ 1 for x in whole[part]) + whole[part.stop :])


@pytest.mark.parametrize("damage", [Path.unlink, spoil])
@pytest.mark.parametrize("old", [False, True])
def test_a_row_whose_predictions_are_gone_or_spoiled_is_made_again(
    home: Home, damage: Callable[[Path], None], old: bool
) -> None:
    first, _, _ = ran(home)
    if old:
        written(home, [of_today(line) for line in logged(home)])
    damage(home.root / "predictions" / f"{first[1].row_id}.npz")
    again, said, reused = ran(home)
    assert (results_of(again), reused) == (results_of(first), 3)
    assert said == ["1 row is made again: its predictions are not there or are damaged"]
    assert predictions(home, first[1].row_id).ids
    assert ran(home)[1:] == ([], 4)


def test_draws_and_ids_that_are_damaged_are_made_anew(home: Home) -> None:
    first, _, _ = ran(home)
    (ids,) = (home.root / "tests").iterdir()
    draw = home.root / "draws" / f"{first[0].draw_id}.json"
    whole = ids.read_bytes(), draw.read_bytes()
    for path in (ids, draw):
        spoil(path)
    assert ran(home)[1:] == ([f"tests/{ids.name} was damaged and is made anew"], 4)
    _, said, _ = ran(home, Request(("linear-probe",), (1, 2), (1, 2), select="fixed"))
    assert said == [f"draws/{draw.name} was damaged and is made anew"]
    assert (ids.read_bytes(), draw.read_bytes()) == whole


def test_two_comparisons_that_start_together_make_each_row_once(home: Home) -> None:
    one, other = (Comparison(ASKED, home.find(), home) for _ in range(2))
    said: list[str] = []
    steps = one.run()
    next(steps)  # it is at its first block, and stays there for now
    helper = threading.Thread(target=lambda: list(other.run(notice=said.append)))
    helper.start()
    while not said:  # the other makes the second block, and then waits for the first
        helper.join(0.01)
    list(steps)
    helper.join(60)
    assert not helper.is_alive()
    assert len(said) == 1
    assert said[0].startswith("nearest-mean at --shots 1: held by pid ")
    ids = [line["row_id"] for line in logged(home)]
    assert sorted(ids) == sorted({row.row_id for row in one.rows})
    assert one.rows == other.rows


def test_rows_that_came_meanwhile_are_not_made_again(home: Home) -> None:
    late = Comparison(ASKED, home.find(), home)
    first, _, _ = ran(home, Request(("nearest-mean",), (1,), (1, 2), select="fixed"))
    list(late.run())
    assert late.rows[:2] == first
    assert len(logged(home)) == 4


@pytest.mark.parametrize(
    "request_",
    [
        Request(("nearest-mean",), (1,), range(1, 10**8 + 1)),
        Request(
            ("tip-adapter",),
            (1,),
            (1,),
            settings={name: [k / 1000 for k in range(1, 1100)] for name in ("alpha", "beta")},
        ),
    ],
    ids=["seeds", "settings"],
)
def test_more_runs_than_can_be_planned_are_refused(home: Home, request_: Request) -> None:
    with pytest.raises(UsageError, match="a comparison makes 300,000 at most"):
        Comparison(request_, home.find(), home)


def test_class_numbers_do_not_wrap(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answers, "MOST_OF_16_BITS", 3)  # the home has four classes
    (row, *_), _, _ = ran(home)
    kept = predictions(home, row.row_id)
    assert {kept.predicted.dtype, kept.label.dtype, kept.true_rank.dtype} == {np.dtype(np.uint32)}
    assert (kept.predicted == kept.label).mean() == row.top1_test
