"""Suite `search`, the closed forms: their answers for many pictures, against their own products."""

from collections.abc import Iterator
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from cacheclip.bench import family, machine
from cacheclip.bench.harness import Case, Setup, Timed
from cacheclip.bench.synthetic import LOGIT_SCALE, features
from cacheclip.engine import memory, stack as engine
from cacheclip.errors import FitError
from cacheclip.methods.base import Method, Params, get
from cacheclip.task import Query

METHODS = ("gda", "proker", "ss-text", "timo", "ape")
SHOTS = 1  # the answers of a cache take as many products as there are keys: the ceiling counts them
ROWS = 4000  # of the test pictures; the rest take as long each
CHECKED_ROWS = 50
TOLERANCE = 1e-3  # of logits of scale 100, in parts and each on its own


def cases(setup: Setup) -> Iterator[Case]:
    """One a method: the ceiling is as many flop at the rate of a large product, timed in turn."""
    shape = replace(setup.shape, shots=SHOTS)
    data = features(shape, setup.device, test=min(ROWS, shape.test))
    query = Query({"image": data.test})
    for name in METHODS:
        settings = get(name).fixed(SHOTS, LOGIT_SCALE)
        method = get(name).of(settings)
        task = family.task_of(method, data, [settings])
        limit = memory.default_limit(setup.device)
        ((_, _, params),) = engine.fit(method, task, [1], lambda share: None, limit)
        head = engine.head(method, params, task)
        yield _case(setup, method, head, query)


def _case(setup: Setup, method: Method, head: Params, query: Query) -> Case:
    classes = setup.shape.classes
    with FlopCounterMode(display=False) as counter:
        _answers(method, head, query.part(0, 1))
    flop = counter.get_total_flops()
    return Case(
        name=f"{method.name} answers, {classes:,} classes",
        unit="picture",
        ours=Timed(partial(_answers, method, head, query), len(query)),
        baselines={},
        says={
            "shape": setup.shape.name,
            "data": "random",
            "shots": SHOTS,
            "rows": len(query),
            "batch_size": "as many as memory holds",
            "epochs": None,
            "optimizer": None,
            "precision": "fp32",
            "mflop_of_a_picture": flop / 1e6,
        },
        floor={"as much of a large product": _product(setup, flop)},
        whole=setup.shape.test,
        job=f"{setup.shape.test:,} pictures",
        check=lambda: _agreement(method, head, query),
    )


def _product(setup: Setup, flop: float) -> Timed:
    """A large square product, in units of as many flop as a picture takes."""
    n = machine.WIDTH[setup.device.type]
    a, b, out = (torch.rand(n, n, device=setup.device) for _ in range(3))
    return Timed(partial(torch.mm, a, b, out=out), 2 * n**3 / flop)


def _answers(method: Method, head: Params, query: Query) -> Tensor:
    """The class of each picture [n], as a classifier gives it: part by part."""
    limit = memory.default_limit(head["logit_scale"].device)
    parts = engine.logits_in_parts(method, head, query, limit)
    return torch.cat([logits[0].argmax(-1) for _, _, logits in parts])


def _agreement(method: Method, head: Params, query: Query) -> dict[str, float]:
    """Pictures together get the logits that each gets alone."""
    n = min(CHECKED_ROWS, len(query))
    with torch.no_grad():
        together = method.logits(head, query.part(0, n))
        alone = torch.cat([method.logits(head, query.part(k, k + 1)) for k in range(n)], 1)
    worst = float((together - alone).abs().max())
    if not worst <= TOLERANCE:
        raise FitError(
            f"{method.name} answers otherwise for pictures together: logits differ by {worst:.1e}",
            where=f"{n} pictures",
            fix="this is a bug; speed means nothing before it is found",
        )
    return {"logits_off_at_most": worst}
