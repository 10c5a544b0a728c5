"""Each suite in miniature: ours and the baselines agree, and what differs is refused."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

import cacheclip.kernels
from cacheclip.bench import (
    adapters,
    closed,
    extract,
    family,
    floor,
    grid,
    kernels,
    released,
    startup,
    train,
)
from cacheclip.bench.harness import Setup, clock, measure
from cacheclip.bench.kernels import both_ways
from cacheclip.bench.ops import OPS, Op, Sizes
from cacheclip.bench.synthetic import features
from cacheclip.encoders.base import NANO
from cacheclip.errors import FitError
from cacheclip.extraction.plan import ExtractRequest
from cacheclip.extraction.run import run as extract_run
from cacheclip.methods.base import Trained, get, names
from cacheclip.methods.clip_adapter import ClipAdapter
from cacheclip.store.home import Home


@pytest.mark.parametrize("recipe", train.RECIPES, ids=lambda r: f"{r.optimizer}-{r.batch_size}")
def test_engine_eager_loop_and_torch_batch_train_the_same_weights(
    setup: Setup, recipe: train.Recipe
) -> None:
    run = train.make_run(setup, features(setup.shape, setup.device), recipe, variants=3, steps=7)
    trained, chunks = adapters.ours(run)
    whole = adapters.batched(run)
    assert sum(chunks) == 3
    for v in range(3):
        alone = adapters.weights_of(adapters.eager(run.part(v, v + 1)))
        for name in adapters.TRAINED:
            torch.testing.assert_close(trained[name][v], alone[name][0], rtol=0, atol=2e-5)
            torch.testing.assert_close(whole[name][v], alone[name][0], rtol=0, atol=2e-5)


@pytest.mark.parametrize("name", released.MODULES)
def test_the_engine_and_the_loop_of_each_method_train_to_the_same_numbers(
    setup: Setup, name: str
) -> None:
    runs = family.runs_of(name, setup, features(setup.shape, setup.device)).lasting(2)
    trained, chunks = family.ours(runs)
    assert sum(chunks) == 3
    for v in range(3):
        one = runs.part(v, v + 1)
        for what, x in released.train(one.method, one.task, one.seeds[0]).items():
            torch.testing.assert_close(trained[what][v], x[0], rtol=1e-4, atol=2e-5)


def test_every_fused_method_of_one_encoder_is_timed() -> None:
    trained = [cls for cls in map(get, names()) if issubclass(cls, Trained) and cls.fused]
    methods = [cls for cls in trained if "aux:image" not in cls().reads.query]
    assert {cls.name for cls in methods} == {ClipAdapter.name, *released.MODULES}


def test_a_method_that_trains_to_other_numbers_than_its_loop_is_refused(
    setup: Setup, monkeypatch: pytest.MonkeyPatch
) -> None:
    case = next(family.cases(setup))
    monkeypatch.setattr(family, "TOLERANCE", 0.0)
    with pytest.raises(FitError, match="other numbers"):
        measure("train", case, setup)


def test_closed_forms_are_held_against_their_products(setup: Setup) -> None:
    results = [measure("search", case, setup) for case in closed.cases(setup)]
    assert [r.case.split()[0] for r in results] == list(closed.METHODS)
    assert all(r.ceiling is not None and r.ceiling.median > 0 for r in results)
    products = {r.case.split()[0]: r.says["mflop_of_a_picture"] * 1e6 for r in results}
    shape = setup.shape
    assert products["gda"] == 2 * 2 * shape.dim * shape.classes  # text, and the discriminant
    assert products["proker"] == 2 * (2 * shape.dim + shape.classes) * shape.classes


def test_a_run_takes_as_many_steps_as_it_says(setup: Setup) -> None:
    data = features(setup.shape, setup.device)  # 80 support rows
    short = train.make_run(setup, data, train.RECIPES[1], variants=2, steps=1)
    assert (short.task.rows.shape, short.steps) == ((2, 32), 1)
    long = train.make_run(setup, data, train.RECIPES[1], variants=2, steps=9)
    assert (long.per_epoch, long.steps) == (2, 8)
    assert len(list(long.batches())) == len(long.rates()) == long.steps


def test_other_weights_are_refused(setup: Setup, monkeypatch: pytest.MonkeyPatch) -> None:
    case = next(train.cases(setup))
    honest = adapters.ours

    def skips_a_variant(run: adapters.Run) -> Any:
        params, chunks = honest(run)
        params["up"][-1] = run.start()["up"][-1]
        return params, chunks

    monkeypatch.setattr(train, "ours", skips_a_variant)
    with pytest.raises(FitError, match="other weights"):
        measure("train", case, setup)


def test_the_flops_of_a_step_are_those_of_its_products(setup: Setup) -> None:
    run = train.make_run(setup, features(setup.shape, setup.device), train.RECIPES[1], 2, 1)
    with FlopCounterMode(display=False) as counter:
        floor.Step(run, 2).products()
    assert counter.get_total_flops() == 2 * floor.flops(run)


def test_every_kernel_is_timed_and_is_its_formula(setup: Setup) -> None:
    results = [measure("kernels", case, setup) for case in kernels.cases(setup)]
    files = Path(cacheclip.kernels.__path__[0]).glob("*.py")
    ops = {file.stem for file in files if "def reference(" in file.read_text()}
    assert {r.case.split()[0] for r in results} == ops
    assert all(r.ceiling is not None and r.ceiling.median > 0 for r in results)


@pytest.mark.parametrize("op", OPS.values(), ids=OPS)
def test_a_formula_takes_what_its_kernel_takes_on_a_gpu(op: Op) -> None:
    """16-bit features beside float32 weights: both ways are timed, and must run."""
    sizes = Sizes(2, 6, 16, 8, 3, 9, dtype=torch.bfloat16, device=torch.device("cpu"))
    inputs = op.inputs(sizes)
    upstream = torch.randn_like(op.reference(**inputs)) if op.wants else None
    for call in (op.reference, op.call):
        own = {k: v.clone() if isinstance(v, torch.Tensor) else v for k, v in inputs.items()}
        assert all(x.isfinite().all() for x in both_ways(call, op, own, upstream))


def test_a_kernel_that_is_off_is_refused(setup: Setup, monkeypatch: pytest.MonkeyPatch) -> None:
    case = next(kernels.cases(setup))
    monkeypatch.setattr(kernels, "TOLERANCE", {"fp32": 0.0})
    with pytest.raises(FitError, match="off its formula"):
        measure("kernels", case, setup)


def test_the_grid_is_the_one_that_compare_plans(
    setup: Setup, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(grid, "SHOTS", (1, 4))
    monkeypatch.setattr(grid, "SEEDS", (1, 2))
    monkeypatch.setenv("CACHECLIP_HOME", str(tmp_path))
    drawn = measure("train", grid.case(setup), setup)
    assert drawn.says["data"] == "random"
    assert drawn.says["variants"] == 2 * 2 * 10
    extract_run(ExtractRequest(str(pictures), NANO), Home(tmp_path))
    monkeypatch.setattr(grid, "DATASET", "colours")
    embedded = measure("train", grid.case(setup), setup)
    assert embedded.says["data"] == "colours, nano"
    assert len(embedded.checked["accuracy"]) == 4
    assert embedded.ceiling is not None


def test_extraction_is_held_against_its_encoder(
    setup: Setup, pictures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(extract, "DATASET", str(pictures))
    (result,) = [measure("extract", case, setup) for case in extract.cases(setup)]
    assert set(result.ratio) == {"encoder on decoded pixels", "writing a store"}
    assert result.seconds["ours"].median > 0
    assert result.checked["off_at_most"] < extract.TOLERANCE


def test_a_command_is_timed_as_a_process() -> None:
    case = startup._case("cacheclip --help", (*startup.COMMAND, "--help"), startup.BARE)
    assert clock(case.ours, torch.device("cpu")) > 0
    assert list(case.baselines) == ["python -c pass"]
