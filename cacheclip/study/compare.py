"""Stage two: a table of methods x settings x shots x seeds from the cache alone."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch

from cacheclip import results
from cacheclip.errors import UsageError
from cacheclip.methods import base as methods
from cacheclip.results import Row
from cacheclip.select import base as policies
from cacheclip.select.base import Policy
from cacheclip.store.home import FeatureSet, Home
from cacheclip.study import rows, settings
from cacheclip.study.data import SetData
from cacheclip.study.plan import blocks, sentence
from cacheclip.study.run import Outcome, run

FLOOR = ("zero-shot", "nearest-mean")
DEFAULT_METHODS = (*FLOOR, "linear-probe", "tip-adapter", "clip-adapter")


@dataclass(frozen=True)
class Request:
    """What to run. `select` None takes `fewshot-val` where val has every class, else `fixed`."""

    methods: tuple[str, ...]
    shots: tuple[int, ...]
    seeds: tuple[int, ...] = (1,)
    select: str | None = None
    set: tuple[str, ...] = ()


class Comparison:
    """One feature set and what is to be run on it; `run` does it, row by row."""

    def __init__(self, request: Request, features: FeatureSet, home: Home) -> None:
        self.home = home
        chosen = [methods.get(name) for name in dict.fromkeys(request.methods)]
        choices = settings.parse(request.set, chosen)
        self.data = SetData(features, _device())
        self.policy = _policy(request.select, self.data)
        self.blocks = blocks(
            chosen, request.shots, request.seeds, self.policy, choices, self.data.logit_scale
        )

    @property
    def plan(self) -> str:
        """What is about to run, in one line."""
        return sentence(self.blocks)

    @property
    def variants(self) -> int:
        """Runs in all blocks together."""
        return sum(block.variants for block in self.blocks)

    def run(
        self, progress: Callable[[float, int], None] = lambda done, total: None
    ) -> Iterator[tuple[Outcome, Row]]:
        """Run block by block; each row is in the log before it is given out.

        Args:
            progress: called with how many variants are done, and how many there are.
        """
        done = 0
        for block in self.blocks:

            def advance(share: float, done: int = done, size: int = block.variants) -> None:
                progress(done + share * size, self.variants)

            outcomes = run(block, self.data, advance)
            made = [rows.row(block, outcome, self.data) for outcome in outcomes]
            for outcome, row in zip(outcomes, made, strict=True):
                rows.keep(self.home, self.data, outcome, row.row_id)
            results.append(self.home.root, made)
            yield from zip(outcomes, made, strict=True)
            done += block.variants


def _device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def _policy(name: str | None, data: SetData) -> Policy:
    """The policy asked for, or the default; a selecting one needs validation images."""
    complete = set(data.pool("val").labels) >= set(range(len(data.classnames)))
    policy = policies.get(name or ("fewshot-val" if complete else "fixed"))
    if policy.selects and not complete:
        raise UsageError(
            f"--select {policy.name} needs a validation image of every class",
            where=f"data set {data.features.dataset}, split val",
            fix="use --select fixed",
        )
    return policy
