"""Supports of unequal classes and of unequal size: `--shots all`, `--fewer keep`, stacks by N."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from cacheclip.draws import Draw
from cacheclip.engine import trainer
from cacheclip.errors import InputError, UsageError
from cacheclip.methods import base as methods
from cacheclip.results import Row
from cacheclip.select import base as policies
from cacheclip.store.home import Home
from cacheclip.study import run, score
from cacheclip.study.compare import DEFAULT_METHODS, Comparison, Request
from cacheclip.study.data import SetData
from cacheclip.study.plan import Block, Cell, blocks, parts

TRAIN = (9, 2, 5, 14)
MakeHome = Callable[..., Home]


@pytest.fixture
def uneven(tmp_path: Path, make_home: MakeHome) -> Home:
    return make_home(tmp_path / "uneven", train=TRAIN)


def compare(home: Home, request: Request) -> list[Row]:
    comparison = Comparison(request, home.find(), home)
    for _ in comparison.run():
        pass
    return comparison.rows


def test_all_shots_of_every_method_read_every_label(uneven: Home) -> None:
    asked = Request(DEFAULT_METHODS, ("all",), (1,), "fixed", {"clip-adapter": {"epochs": 3}})
    rows = {row.method: row for row in compare(uneven, asked)}
    assert rows.pop("zero-shot").n_train == 0
    assert len(rows) == len(DEFAULT_METHODS) - 1
    for row in rows.values():
        assert (row.shots, row.n_train, row.error) == ("all", sum(TRAIN), None)


def test_fewer_classes_are_an_error_unless_they_may_keep_what_they_have(uneven: Home) -> None:
    asked = Request(("nearest-mean",), (4, 16), select="fixed")
    errors = compare(uneven, asked)
    assert [row.error is None for row in errors] == [False, False]
    assert "--fewer keep" in str(errors[0].error)
    comparison = Comparison(replace(asked, fewer="keep"), uneven.find(), uneven)
    kept = [row for _, row in comparison.run()]
    assert [(row.n_train, row.fewer) for row in kept] == [(4 + 2 + 4 + 4, "keep"), (30, "keep")]
    assert comparison.shortages == [
        "--shots 4: fewer training pictures, all of them taken, in 1 of 4 classes: bee 2",
        "--shots 16: fewer training pictures, all of them taken, in 4 of 4 classes: "
        "ant 9, bee 2, cow 5, doe 14",
    ]


def test_the_floor_stands_under_what_keeps_fewer(uneven: Home) -> None:
    asked = Request(("tip-adapter",), (4,), select="fixed", floor=("nearest-mean",), fewer="keep")
    assert {row.method for row in compare(uneven, asked)} == {"nearest-mean", "tip-adapter"}


def test_keep_is_the_same_row_where_every_class_has_its_shots(uneven: Home) -> None:
    asked = Request(("nearest-mean",), (2,), select="fixed")
    (row,) = compare(uneven, asked)
    again = Comparison(replace(asked, fewer="keep"), uneven.find(), uneven)
    assert again.rows == [row]
    assert again.shortages == []


def test_a_class_without_a_training_image_is_an_error(tmp_path: Path, make_home: MakeHome) -> None:
    home = make_home(tmp_path / "h", train=(3, 0, 3, 3))
    for request in (
        Request(("nearest-mean",), ("all",), select="fixed"),
        Request(("nearest-mean",), (2,), select="fixed", fewer="keep"),
    ):
        (row,) = compare(home, request)
        assert "1 of 4 classes have no training picture" in str(row.error)


def test_constants_under_all_are_those_of_the_images_a_class_on_average(uneven: Home) -> None:
    def epochs(data: Home) -> set[object]:
        asked = Request(("clip-adapter",), (1, 8, "all"), select="fixed")
        made = Comparison(asked, data.find(), data).blocks
        return {(b.shots, b.cells[0].candidates[0]["epochs"]) for b in made}

    assert epochs(uneven) == {(1, 50), (8, 200), ("all", 200)}  # 30 images in 4 classes


def draw_of(n_train: int) -> Draw:
    rows, ids = tuple(range(n_train)), tuple(map(str, range(n_train)))
    return Draw(4, 1, rows, (0,) * n_train, ids, (), (), ())


def block_of(draws: list[Draw]) -> Block:
    method = methods.get("clip-adapter")
    policy = policies.get("fixed")
    (block,) = blocks([method], [4], range(len(draws)), policy, {method.name: {}}, 50.0)
    cells = [replace(cell, draw=draw) for cell, draw in zip(block.cells, draws, strict=True)]
    return replace(block, cells=tuple(cells))


def test_supports_of_another_size_are_another_stack() -> None:
    block = block_of([draw_of(n) for n in (8, 7, 8, 7, 9)])
    assert [(s.n_train, [v.seed for v in s.variants]) for s in block.stacks] == [
        (8, [0, 2]),
        (7, [1, 3]),
        (9, [4]),
    ]
    assert list(parts([block], lambda stack: 10)) == [[[0, 2]], [[1, 3]], [[4]]]
    room = {8: 10, 7: 1, 9: 10}
    cut = list(parts([block], lambda stack: room[stack.n_train]))
    assert cut == [[[0, 2]], [[1]], [[3]], [[4]]]


@pytest.mark.parametrize("name", ["nearest-mean", "linear-probe", "tip-adapter-f", "clip-adapter"])
def test_draws_of_unequal_size_run_together_as_they_run_alone(name: str, uneven: Home) -> None:
    """As lists of support pictures that somebody else drew would be."""
    data = SetData(uneven.find(), torch.device("cpu"), 10**8)
    drawn: list[Draw] = [data.draw(k, k, "keep") for k in (4, 9, 2)]
    block = replace(block_of(drawn), method=methods.get(name), shots=4)
    settings = block.method.fixed(4, 50.0) | ({"epochs": 2} if name == "clip-adapter" else {})
    cells = tuple(Cell(draw.seed, (settings,), settings, draw) for draw in drawn)

    def scores(cells: tuple[Cell, ...]) -> list[float]:
        part = replace(block, cells=cells)
        (outcomes,) = run.run([part], data, lambda share: None, lambda text: None)
        return [float(o.scores.top1[0]) for o in outcomes if o.scores]

    assert scores(cells) == [score for cell in cells for score in scores((cell,))]


def test_a_method_that_learns_from_no_picture_has_nothing_to_refit(uneven: Home) -> None:
    from cacheclip.study.fit import fit

    with pytest.raises(UsageError, match="nothing to refit"):
        fit(Request(("zero-shot",), (4,)), uneven.find(), uneven, final=True)


def test_the_refit_reads_test_labels_after_the_score_and_not_before(
    uneven: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    from cacheclip.study.fit import fit

    order: list[str] = []

    def noting(name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def noted(*arguments: Any, **named: Any) -> Any:
            order.append(name)
            return real(*arguments, **named)

        return noted

    monkeypatch.setattr(run, "score", noting("score", score.score))
    monkeypatch.setattr(SetData, "whole_task", noting("whole_task", SetData.whole_task))
    asked = Request(("nearest-mean",), ("all",))
    plain = fit(asked, uneven.find(), uneven)
    final = fit(asked, uneven.find(), uneven, final=True)
    assert order == ["score", "score", "whole_task"]
    assert final.row.top1_test == plain.row.top1_test


@pytest.mark.parametrize("name", ["nearest-mean", "tip-adapter", "tip-adapter-f", "clip-adapter"])
def test_every_method_can_be_refitted_on_all_labels(name: str, uneven: Home) -> None:
    from cacheclip.bundle import Bundle
    from cacheclip.study.fit import fit

    quick = {"epochs": 2} if name == "clip-adapter" else {}
    asked = Request((name,), ("all",), (1,), "fixed", quick)
    fitted = fit(asked, uneven.find(), uneven, final=True)
    assert fitted.bundle
    assert fitted.final == sum(TRAIN) + 8 + 40
    bundle = Bundle.read(fitted.bundle)
    assert bundle.provenance["n_train"] == fitted.final
    if "keys" in bundle.head:
        assert len(bundle.head["keys"]) == fitted.final


def test_the_final_classifier_stops_after_the_epoch_that_validation_pictures_found(
    uneven: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    from cacheclip.bundle import Bundle
    from cacheclip.engine import stack as engine
    from cacheclip.study.fit import fit

    quiet = {"epochs": 12, "lr": 0.5, "alpha": 0.6, "schedule": "constant", "stop": "search"}
    asked = Request(("clip-adapter",), ("all",), (1,), "full-val", quiet)
    gone: list[int | None] = []
    whole = engine.fit

    def watching(*given: Any, **options: Any) -> Any:
        gone.append(options.get("epochs"))
        return whole(*given, **options)

    monkeypatch.setattr(engine, "fit", watching)
    plain = fit(asked, uneven.find(), uneven)
    assert plain.bundle and set(gone) == {None}
    assert "stopped" not in Bundle.read(plain.bundle).head
    final = fit(asked, uneven.find(), uneven, final=True)
    assert final.bundle and final.row.row_id == plain.row.row_id
    assert gone[-1] is not None and 1 <= gone[-1] < 12
    data = SetData(uneven.find(), torch.device("cpu"), 10**9)
    method = methods.get("clip-adapter")
    task = data.whole_task(method, final.row.hparams)
    own = method.of(final.row.hparams)
    steps = trainer.steps(own, task, [1])  # type: ignore[arg-type]
    for _ in range(gone[-1] * own.per_epoch(task)):  # type: ignore[attr-defined]
        params = next(steps)
    head = Bundle.read(final.bundle).head
    for name in ("up", "down"):
        torch.testing.assert_close(torch.from_numpy(head[name]), params[name][0].detach())


def test_a_row_has_what_was_learned_where_its_head_has_what_is_served(
    uneven: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    from cacheclip.bundle import Bundle
    from cacheclip.methods.task_res import TaskRes
    from cacheclip.study.fit import fit

    def size(self: TaskRes, params: dict[str, torch.Tensor]) -> dict[str, float]:
        return {"size": float(params["residual"].norm())}

    monkeypatch.setattr(TaskRes, "learned", size)
    asked = Request(("task-res",), ("all",), (1,), "fixed", {"epochs": 2})
    plain, final = (fit(asked, uneven.find(), uneven, final=last) for last in (False, True))
    assert plain.row.learned and plain.bundle and final.bundle
    assert "residual" not in Bundle.read(plain.bundle).head
    assert Bundle.read(plain.bundle).learned == plain.row.learned == final.row.learned
    assert Bundle.read(final.bundle).learned["size"] not in (0.0, plain.row.learned["size"])


def test_too_few_for_fit_offers_both_ways_out(uneven: Home) -> None:
    from cacheclip.study.fit import fit

    with pytest.raises(InputError, match="--shots 2 or fewer, --fewer keep"):
        fit(Request(("nearest-mean",), (4,)), uneven.find(), uneven)
    said: list[str] = []
    kept = Request(("nearest-mean",), (4,), fewer="keep")
    fitted = fit(kept, uneven.find(), uneven, notice=said.append)
    assert fitted.row.n_train == 14
    assert any("bee 2" in line for line in said)
