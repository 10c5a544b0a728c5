"""Methods that answer for the test pictures together, or one after the other."""

import json

import torch
from torch import Tensor

from cacheclip.heads.temperature import label_log_p
from cacheclip.methods.base import ClosedForm, Online, Params, Reads, Setting, Settings
from cacheclip.results import LOG
from cacheclip.select import base as policies
from cacheclip.store.home import Home
from cacheclip.study.compare import Comparison, Request
from cacheclip.study.data import SetData
from cacheclip.study.fit import fit as fit_one
from cacheclip.study.fit_table import table
from cacheclip.study.heads import Heads, fit
from cacheclip.study.plan import Block, Cell, blocks
from cacheclip.study.run import run
from cacheclip.study.sentence import sentence
from cacheclip.study.table import summary
from cacheclip.task import Generators, Query, Task


class Centred(ClosedForm):
    """Class sums against pictures from whose features a share of their mean is taken."""

    paper = "none"
    setting = "transductive"
    table = {"share": Setting(0.0, grid=(0.0, 1.0))}

    def solve(self, task: Task) -> Params:
        one_hot = torch.nn.functional.one_hot(task.labels, task.n_classes).float()
        sums = one_hot.mT @ task.support()["image"]
        return {"weight": sums, "share": task.settings["share"]}

    def logits(self, params: Params, query: Query) -> Tensor:
        x = query["image"]
        return (x - params["share"][:, None, None] * x.mean(0)) @ params["weight"].mT


class Turning(ClosedForm, Online):
    """Learns from nothing; what it says of a picture is moved on by how many came before."""

    paper = "none"
    learns = "nothing"
    table = {"share": Setting(1.0, grid=(0.0, 1.0, 2.0))}
    reads = Reads(text=("norm-mean",))

    def solve(self, task: Task) -> Params:
        text = task.class_text("norm-mean")
        return {"weight": text, "seen": task.settings["share"] * 0}

    def see(self, state: Params, query: Query) -> Tensor:
        cosines = query["image"] @ state["weight"].mT  # [V, 1, C]
        turned = [row.roll(int(seen), -1) for row, seen in zip(cosines, state["seen"], strict=True)]
        state["seen"] += 1
        return torch.stack(turned)


def test_a_transductive_choice_answers_for_both_and_counts_the_held_out(home: Home) -> None:
    data = SetData(home.find(), torch.device("cpu"), 10**8)
    candidates: tuple[Settings, ...] = ({"share": 0.0}, {"share": 1.0})
    cell = Cell(1, candidates, candidates[0], data.draw(4, 1))
    block = Block(Centred, 4, policies.get("fewshot-val"), (cell,))
    ((outcome,),) = run([block], data, lambda share: None, lambda text: None)
    assert isinstance(outcome.result, Heads)
    assert outcome.draw
    method = Centred()
    val, labels = data.pictures(method, "val", outcome.draw.val, outcome.draw.val_labels)
    both = val.beside(data.test_query(method))
    (heads,) = fit(method, cell.variants, data)
    together = label_log_p(method.logits(heads.params, both)[:, : len(labels)], labels)
    alone = label_log_p(method.logits(heads.params, val), labels)
    assert torch.equal(torch.stack([point.log_p for point in outcome.race.points]), together)
    assert not torch.equal(together[1], alone[1])


def test_seeds_order_a_stream_and_shots_do_not_count_where_nothing_is_learned() -> None:
    policy = policies.get("fewshot-val")
    (block,) = blocks([Turning], [1, 4], [1, 2, 3], policy, {Turning.name: {}}, 100.0)
    assert [cell.seed for cell in block.cells] == [1, 2, 3]
    assert all(cell.candidates == ({"share": 1.0},) for cell in block.cells)
    assert sentence([block]) == f"3 runs: {Turning.name} 3 (3 seeds); in 1 stack"


def test_a_stream_comes_in_the_order_of_its_seed_and_is_scored_in_that_of_the_set(
    home: Home,
) -> None:
    data = SetData(home.find(), torch.device("cpu"), 10**8)
    policy = policies.get("fixed")
    (block,) = blocks([Turning], [1], [1, 2], policy, {Turning.name: {}}, 100.0)
    (outcomes,) = run([block], data, lambda share: None, lambda text: None)
    text = data.task(Turning, [None], [{"share": 1.0}]).text["norm-mean"]
    plain = (data.test_query(Turning())["image"] @ text.mT).argmax(-1)
    for seed, outcome in zip([1, 2], outcomes, strict=True):
        order = Generators([seed], "stream", data.device, torch.float32).permutations(len(plain))[0]
        place = order.argsort()  # how many came before each picture of the set
        assert outcome.scores
        assert outcome.scores.predicted[0].tolist() == ((plain + place) % len(text)).tolist()


MARKS = ["zero-shot", "tda (online)", "transclip-zs (transductive)", "transclip-fs (transductive)"]


def test_rows_whose_answers_depend_on_other_pictures_are_marked(home: Home) -> None:
    request = Request(("zero-shot", "tda", "transclip-zs", "transclip-fs"), (2,), (1,), "fixed")

    def labels() -> list[str]:
        comparison = Comparison(request, home.find(), home)
        for _ in comparison.run():
            pass
        kinds = ["inductive", "online", "transductive", "transductive"]
        assert [row.as_json()["setting"] for row in comparison.rows] == kinds
        return [line[0] for line in summary(comparison.rows)[1]]

    assert labels() == MARKS
    log = home.root / LOG
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert [line.pop("setting") for line in lines].count("transductive") == 2
    log.write_text("".join(json.dumps(_unsealed(line)) + "\n" for line in lines))
    before = log.read_bytes()
    assert labels() == MARKS  # rows of before the mark
    assert log.read_bytes() == before
    fitted = fit_one(Request(("transclip-zs",), (1,), (1,)), home.find(), home)
    assert table(fitted)[1][0][0] == "transclip-zs (transductive)"


def _unsealed(line: dict[str, object]) -> dict[str, object]:
    return {name: x for name, x in line.items() if name not in ("format", "digest")}
