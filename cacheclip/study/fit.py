"""Stage two for one classifier: fit it, score it, leave a bundle."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from cacheclip.bundle import SUFFIX, is_bundle
from cacheclip.draws import ALL
from cacheclip.errors import CacheclipError, UsageError
from cacheclip.files.places import refuse_place
from cacheclip.methods.base import Settings
from cacheclip.results import Row
from cacheclip.store.home import FeatureSet, Home
from cacheclip.study import rows
from cacheclip.study.compare import Comparison, Request
from cacheclip.study.final import refit, refuse_final
from cacheclip.study.plan import Block
from cacheclip.study.score import Scores

PUBLISHED_SCALE = 100.0  # the logit scale of the encoders that published constants are for


@dataclass(frozen=True)
class Fitted:
    """One fit.

    Attributes:
        row: its row.
        scores: its test results, W = 1.
        commonest: the class with the most test pictures.
        unequal: whether classes differ in their number of test pictures.
        logit_scale: the encoder's exp(logit_scale).
        rescaled: settings that follow it -> what they are at 100.
        bundle: where its bundle lies; None where a method has no head to keep.
        final: how many pictures a bundle of `--final` learned from; the row is of the fit before.
    """

    row: Row
    scores: Scores
    commonest: str
    unequal: bool
    logit_scale: float
    rescaled: Settings
    bundle: Path | None
    final: int | None = None


def fit(
    request: Request,
    features: FeatureSet,
    home: Home,
    out: Path | None = None,
    progress: Callable[[float, int], None] = lambda done, total: None,
    notice: Callable[[str], None] = lambda text: None,
    final: bool = False,
) -> Fitted:
    """Fit one method on one draw.

    Args:
        request: one method, one shot count, one seed.
        features: the feature set.
        home: where row, predictions and bundle go.
        out: where the bundle goes instead.
        progress: called with how many variants are done, and how many there are.
        notice: called with a line for the user.
        final: once the fit is scored, fit its settings anew on the pictures of all splits, and
            leave that bundle.

    Raises:
        UsageError: several values of a setting under a policy that does not choose, or `final` of a
            method that learns from no picture.
        InputError: `out` is no place for a bundle.
        CacheclipError: the fit failed.
    """
    if out is not None:
        refuse_place(out, "--out", (SUFFIX, ""), is_bundle)
    comparison = Comparison(
        replace(request, on_existing="redo", calibrate_anew=True), features, home
    )
    for line in (*comparison.shortages, *comparison.notices):
        notice(line)
    (block,) = comparison.blocks
    if final:
        refuse_final(block.method)
    if len(block.cells) > 1:
        raise UsageError(
            f"{len(block.cells)} combinations of settings, and --select fixed does not choose",
            where="--set",
            fix="give one value each, or `cacheclip compare` for a row each",
        )
    ((outcome, row),) = comparison.run(progress, notice)
    if isinstance(outcome.result, CacheclipError):
        raise outcome.result
    if outcome.scores is None:
        raise TypeError(f"{row.method}: settled and not scored")
    path, learned_from = None, None
    if block.method.setting == "inductive":
        name = f"{row.row_id}-final" if final else row.row_id
        path = out or home.root / "bundles" / f"{name}.safetensors"
        if final:
            made = refit(block, outcome, outcome.result, comparison.data, notice)
            learned_from = int(made.provenance["n_train"])
        else:
            made = rows.bundle(block, outcome, outcome.result, comparison.data)
        made.write(path, "--out" if out else "--results")
    data, scores = comparison.data, outcome.scores
    n_each = np.bincount(scores.label, minlength=len(data.classnames))
    return Fitted(
        row=row,
        scores=scores,
        commonest=data.classnames[int(n_each.argmax())],
        unequal=len(set(n_each[n_each > 0].tolist())) > 1,
        logit_scale=data.logit_scale,
        rescaled=_rescaled(block, comparison, row),
        bundle=path,
        final=learned_from,
    )


def _rescaled(block: Block, comparison: Comparison, row: Row) -> Settings:
    """The settings that the method's constants would have at the published logit scale."""
    given = block.policy.axes(block.method, comparison.choices[block.method.name])
    chosen = {name: row.hparams[name] for name in given if name in row.hparams}
    shots = comparison.data.per_class if block.shots == ALL else block.shots
    here, published = (
        block.method.fixed(shots, scale, block.recipe, chosen)
        for scale in (comparison.data.logit_scale, PUBLISHED_SCALE)
    )
    return {name: published[name] for name, value in here.items() if value != published[name]}
