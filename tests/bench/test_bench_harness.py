import pytest
import torch

from cacheclip.bench.harness import Case, Setup, Timed, cells, clock, duration, measure, summarise
from cacheclip.errors import FitError


def make_case(**changes: object) -> Case:
    given: dict[str, object] = {
        "name": "adding",
        "unit": "sum",
        "ours": Timed(lambda: None, 4),
        "baselines": {"slow": Timed(lambda: None)},
        "says": {"precision": "fp32"},
    }
    return Case(**given | changes)  # type: ignore[arg-type]


def test_ratios_are_of_pairs_within_a_round() -> None:
    case = make_case(floor={"a": Timed(lambda: None), "b": Timed(lambda: None)}, whole=10)
    times = {
        "ours": [1.0, 2.0, 4.0],
        "slow": [3.0, 4.0, 20.0],
        "a": [0.5, 0.5, 0.5],
        "b": [0.25, 0.5, 0.5],
    }
    result = summarise("suite", case, {}, times)
    assert result.rounds == 3
    assert (result.ratio["slow"].median, result.ratio["slow"].least) == (3.0, 2.0)
    assert result.ratio["slow"].most == 5.0
    assert result.seconds["slow"].median == 4.0
    assert result.ceiling is not None
    assert (result.ceiling.median, result.ceiling.least) == (0.5, 0.25)
    assert result.ceiling.most == 0.75
    assert result.jobs_per_second == {"ours": 1 / 20, "slow": 1 / 40}


def test_a_computed_limit_is_a_ceiling_too() -> None:
    result = summarise("suite", make_case(limit=0.5), {}, {"ours": [1.0, 2.0], "slow": [1.0, 2.0]})
    assert result.ceiling is not None
    assert (result.ceiling.least, result.ceiling.most) == (0.25, 0.5)


def test_contenders_take_turns_and_the_warm_up_does_not_count(setup: Setup) -> None:
    called: list[str] = []

    def check() -> dict[str, float]:
        called.append("check")
        return {"off": 0.0}

    case = make_case(
        ours=Timed(lambda: called.append("ours")),
        baselines={"slow": Timed(lambda: called.append("slow"))},
        check=check,
        rounds=2,
    )
    result = measure("suite", case, setup)
    assert called == ["check", *["ours", "slow"] * 3]
    assert result.rounds == 2
    assert result.checked == {"off": 0.0}


def test_nothing_is_timed_where_outputs_differ(setup: Setup) -> None:
    called: list[str] = []

    def differ() -> dict[str, float]:
        raise FitError("other numbers", where="here", fix="mend it")

    with pytest.raises(FitError, match="other numbers"):
        measure("suite", make_case(ours=Timed(lambda: called.append("ours")), check=differ), setup)
    assert called == []


def test_seconds_apart_are_taken_off_and_units_share_the_rest() -> None:
    whole = clock(Timed(lambda: -6.0, units=3, gives_apart=True), torch.device("cpu"))
    assert 2 <= whole < 3


def test_the_table_has_a_row_a_baseline() -> None:
    times = {"ours": [1e-3], "slow": [2e-3], "slower": [5e-6]}
    case = make_case(baselines={"slow": Timed(lambda: None), "slower": Timed(lambda: None)})
    headers, rows = cells([summarise("suite", case, {}, times)])
    assert [len(row) for row in rows] == [len(headers)] * 2
    assert rows[0][:6] == ["adding", "sum", "1 ms", "slow", "2 ms", "2.00"]
    assert rows[1][:6] == ["", "", "", "slower", "5 us", "0.005"]


def test_durations_have_three_digits() -> None:
    assert [duration(s) for s in (12.34, 0.01234, 1.5e-5, 2e-8)] == [
        *("12.3 s", "12.3 ms", "15 us", "20 ns")
    ]
