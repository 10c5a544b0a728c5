"""A trained method is one file with `loss`: this test writes one, and the engine trains it."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import cacheclip.methods
from cacheclip.bundle import Bundle
from cacheclip.methods import base
from cacheclip.store.home import Home

SOURCE = '''
"""TaskRes: a residual beside the frozen text."""

from torch import Tensor

from cacheclip.heads.cosine import cosine_logits, mean_cross_entropy
from cacheclip.methods.base import Params, Reads, Setting, Trained, steps
from cacheclip.task import Batch, Generators, Query, Task, unit


class ToyRes(Trained):
    """Logits s x norm(T + alpha R)^T with R from 0 (2211.10277)."""

    paper = "2211.10277"
    reads = Reads(text=("raw-mean",))
    table = {
        "alpha": Setting(0.5, grid=(0.1, 0.5, 1.0)),
        **steps(lr=2e-3, epochs=40, optimizer="adam", weight_decay=5e-4, schedule="dassl"),
    }
    trainable = ("residual",)

    def init(self, task: Task, random: Generators) -> Params:
        text = task.class_text("raw-mean")
        return {
            "text": text,
            "residual": text.new_zeros(text.shape),
            "logit_scale": text.new_full((len(text),), task.logit_scale),
            "alpha": task.settings["alpha"],
        }

    def logits(self, params: Params, query: Query) -> Tensor:
        moved = params["text"] + params["alpha"][:, None, None] * params["residual"]
        return cosine_logits(query, unit(moved), params["logit_scale"])

    def loss(self, params: Params, batch: Batch) -> Tensor:
        return mean_cross_entropy(self.logits(params, batch.query), batch.labels)
'''


@pytest.fixture
def _with_one_more_file(tmp_path: Path) -> Iterator[None]:
    """The folder of methods, and a folder beside it with the new file."""
    (tmp_path / "toy_res.py").write_text(SOURCE)
    folders = cacheclip.methods.__path__
    folders.append(str(tmp_path))
    yield
    folders.remove(str(tmp_path))
    sys.modules.pop("cacheclip.methods.toy_res", None)


@pytest.mark.usefixtures("_with_one_more_file")
def test_a_file_with_a_loss_is_a_method_of_every_command(home: Home) -> None:
    from cacheclip.study import fit_table
    from cacheclip.study.compare import Comparison, Request
    from cacheclip.study.fit import fit

    assert "toy-res" in base.names()
    asked = Request(("zero-shot", "toy-res"), (4,), (1, 2, 3), "fixed", {"alpha": [0.5, 1]})
    comparison = Comparison(asked, home.find(), home)
    assert "in 2 stacks" in comparison.plan  # all seeds and settings of it step together
    for _ in comparison.run():
        pass
    zero_shot, *trained = comparison.rows
    assert len(trained) == 6
    assert {row.stack_size for row in trained} == {6}
    assert zero_shot.nll_test_raw not in {row.nll_test_raw for row in trained}
    chosen = fit(Request(("toy-res",), (4,)), home.find(), home)
    assert chosen.row.text_norm == pytest.approx(
        7.404, rel=1e-3
    )  # as of raw text: it changes nothing
    assert chosen.row.hparams["lr"] == pytest.approx(2e-3 * (100 / 50), rel=1e-3)
    assert "at logit scale 100, here 50)" in fit_table.settings(chosen)
    assert chosen.bundle
    assert chosen.row.curve
    assert len(chosen.row.curve) == 3
    assert Bundle.read(chosen.bundle).head["residual"].any()
