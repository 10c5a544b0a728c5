"""Stage two for one classifier: fit it, score it, leave a bundle."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from cacheclip.answers import Rooted
from cacheclip.bundle import SUFFIX, Bundle, is_bundle
from cacheclip.draws import ALL
from cacheclip.errors import CacheclipError, UsageError
from cacheclip.files.places import refuse_place
from cacheclip.methods.base import LOGIT_SCALE, TEXT_NORM, Settings
from cacheclip.results import Row
from cacheclip.store.source import Source
from cacheclip.study import rows
from cacheclip.study.choice import Choice, explained
from cacheclip.study.compare import Comparison, Request
from cacheclip.study.final import refit, refuse_bundle, refuse_final
from cacheclip.study.heads import Heads
from cacheclip.study.journal import Journal
from cacheclip.study.next_step import leaves_bundle
from cacheclip.study.plan import Block
from cacheclip.study.run import Outcome
from cacheclip.study.score import Scores

ONE_FIT: dict[str, Any] = {"on_existing": "redo", "calibrate_anew": True}  # of a `Request`


@dataclass(frozen=True)
class Fitted:
    """One fit.

    Attributes:
        row: its row.
        scores: its test results, W = 1.
        classnames: one a class.
        commonest: the class with the most test pictures.
        unequal: whether classes differ in their number of test pictures.
        logit_scale: the encoder's exp(logit_scale).
        rescaled: settings that follow it -> what they are at 100.
        bundle: where its bundle lies; None where a method has no head to keep.
        final: how many pictures a bundle of `--final` learned from; the row is of the fit before.
        choice: what its settings were chosen from; None where there was one choice alone.
    """

    row: Row
    scores: Scores
    classnames: Sequence[str]
    commonest: str
    unequal: bool
    logit_scale: float
    rescaled: Settings
    bundle: Path | None
    final: int | None = None
    choice: Choice | None = None


def fit(
    request: Request,
    features: Source,
    results: Rooted,
    out: Path | None = None,
    progress: Callable[[float, int], None] = lambda done, total: None,
    notice: Callable[[str], None] = lambda text: None,
    final: bool = False,
) -> Fitted:
    """Fit one method on one draw.

    Args:
        request: one method, one shot count, one seed.
        features: the feature set.
        results: where row, predictions and bundle go.
        out: where the bundle goes instead.
        progress: called with how many variants are done, and how many there are.
        notice: called with a line for the user.
        final: once the fit is scored, fit its settings anew on the pictures of all splits, and
            leave that bundle.

    Raises:
        UsageError: several values of a setting under a policy that does not choose, `final` of a
            method that learns from no picture, or `out` or `final` of one that leaves no bundle.
        InputError: `out` is no place for a bundle.
        CacheclipError: the fit failed.
    """
    if out is not None:
        refuse_place(out, "--out", (SUFFIX, ""), is_bundle)
    comparison = Comparison(replace(request, **ONE_FIT), features, results)
    if out is not None:
        refuse_bundle(comparison.blocks[0], "--out")
    if final:
        refuse_final(comparison.blocks[0])
    outcome, winner, row = one_cell(comparison, progress, notice)
    path, learned_from = None, None
    if leaves_bundle(row):
        made, learned_from = _bundle(comparison, outcome, winner, notice, final=final)
        name = f"{row.row_id}-final" if final else row.row_id
        path = out or Journal(results, [comparison.data]).bundle(name)
        made.write(path, "--out" if out else "--results")
    return _fitted(comparison, outcome, row, path, learned_from)


def _bundle(
    comparison: Comparison,
    outcome: Outcome,
    winner: Heads,
    notice: Callable[[str], None],
    *,
    final: bool,
) -> tuple[Bundle, int | None]:
    """The classifier, and how many pictures a final one learned from."""
    (block,) = comparison.blocks
    if not final:
        return rows.bundle(block, outcome, winner, comparison.data), None
    made = refit(block, outcome, winner, comparison.data, notice)
    return made, int(made.provenance["n_train"])


def _fitted(
    comparison: Comparison, outcome: Outcome, row: Row, path: Path | None, final: int | None
) -> Fitted:
    """What people are told of a fit."""
    scores = outcome.scores
    if scores is None:
        raise TypeError(f"{row.method}: settled and not scored")
    data, (block,) = comparison.data, comparison.blocks
    n_each = np.bincount(scores.label, minlength=len(data.classnames))
    return Fitted(
        row=row,
        scores=scores,
        classnames=data.classnames,
        commonest=data.classnames[int(n_each.argmax())],
        unequal=len(set(n_each[n_each > 0].tolist())) > 1,
        logit_scale=data.logit_scale,
        rescaled=_rescaled(block, comparison, row),
        bundle=path,
        final=final,
        choice=explained(outcome.race),
    )


def one_cell(
    comparison: Comparison,
    progress: Callable[[float, int], None] = lambda done, total: None,
    notice: Callable[[str], None] = lambda text: None,
) -> tuple[Outcome, Heads, Row]:
    """Run a comparison that is one row.

    Args:
        comparison: of one method, shot count and seed.
        progress: called with how many variants are done, and how many there are.
        notice: called with a line for the user.

    Raises:
        UsageError: several values of a setting under a policy that does not choose.
        CacheclipError: the fit failed.
    """
    for line in (*comparison.shortages, *comparison.notices):
        notice(line)
    (block,) = comparison.blocks
    if len(block.cells) > 1:
        raise UsageError(
            f"{len(block.cells)} combinations of settings, and "
            f"--select {block.policy.name} does not choose",
            where="--set",
            fix="give one value each, or `cacheclip compare` for a row each",
        )
    ((outcome, row),) = comparison.run(progress, notice)
    if isinstance(outcome.result, CacheclipError):
        raise outcome.result
    return outcome, outcome.result, row


def _rescaled(block: Block, comparison: Comparison, row: Row) -> Settings:
    """The settings that the method's constants would have at the published logit scale."""
    given = block.policy.axes(block.method, comparison.choices[block.method.name])
    chosen = {name: row.hparams[name] for name in given if name in row.hparams}
    shots = comparison.data.per_class if block.shots == ALL else block.shots
    norm = TEXT_NORM if row.text_norm is None else row.text_norm
    here, published = (
        block.method.fixed(shots, scale, block.recipe, chosen, c)
        for scale, c in ((comparison.data.logit_scale, norm), (LOGIT_SCALE, TEXT_NORM))
    )
    return {name: published[name] for name, value in here.items() if value != published[name]}
