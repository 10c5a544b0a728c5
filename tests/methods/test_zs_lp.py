"""ZS-LP is CLAP without its pull, and moves each class on a sphere alone."""

import torch

from cacheclip.methods.base import Settings
from cacheclip.methods.clap import Clap
from cacheclip.methods.zs_lp import ZsLp
from cacheclip.task import unit
from tests.methods.explicit import problem

OWN: Settings = {"epochs": 20, "batch_size": 5}


def test_it_is_clap_without_its_pull() -> None:
    plain = problem(ZsLp, [OWN, {**OWN, "lr": 0.02}])
    free = problem(Clap, [{**OWN, "strength": 0.0}, {**OWN, "strength": 0.0, "lr": 0.02}])
    torch.testing.assert_close(plain.head()["weight"], free.head()["weight"], rtol=0, atol=1e-12)


def test_it_starts_at_zero_shot() -> None:
    made = problem(ZsLp, [{**OWN, "lr": 0.0, "schedule": "constant"}] * 2)
    text = unit(made.task.text["raw-mean"])
    torch.testing.assert_close(made.head()["weight"], text.expand(2, -1, -1), rtol=0, atol=1e-12)
