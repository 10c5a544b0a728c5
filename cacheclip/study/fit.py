"""Stage two for one classifier: fit it, score it, leave a bundle."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from cacheclip.bundle import SUFFIX, is_bundle
from cacheclip.disk import refuse_place
from cacheclip.errors import CacheclipError, UsageError
from cacheclip.results import Row
from cacheclip.store.home import FeatureSet, Home
from cacheclip.study import rows
from cacheclip.study.compare import Comparison, Request


@dataclass(frozen=True)
class Fitted:
    """A row and where its bundle lies; None where a method has no head to keep."""

    row: Row
    bundle: Path | None


def fit(
    request: Request,
    features: FeatureSet,
    home: Home,
    out: Path | None = None,
    progress: Callable[[float, int], None] = lambda done, total: None,
    notice: Callable[[str], None] = lambda text: None,
) -> Fitted:
    """Fit one method on one draw.

    Args:
        request: one method, one shot count, one seed.
        features: the feature set.
        home: where row, predictions and bundle go.
        out: where the bundle goes instead.
        progress: called with how many variants are done, and how many there are.
        notice: called with a line for the user.

    Raises:
        UsageError: several values of a setting under a policy that does not choose.
        InputError: `out` is no place for a bundle.
        CacheclipError: the fit failed.
    """
    if out is not None:
        refuse_place(out, "--out", (SUFFIX, ""), is_bundle)
    comparison = Comparison(replace(request, on_existing="redo"), features, home)
    (block,) = comparison.blocks
    if len(block.cells) > 1:
        raise UsageError(
            f"{len(block.cells)} combinations of settings, and --select fixed does not choose",
            where="--set",
            fix="use --select fewshot-val, or `cacheclip compare` for a row each",
        )
    ((outcome, row),) = comparison.run(progress, notice)
    if isinstance(outcome.result, CacheclipError):
        raise outcome.result
    if block.method.setting != "inductive":
        return Fitted(row, None)
    path = out or home.root / "bundles" / f"{row.row_id}.safetensors"
    rows.bundle(block, outcome, outcome.result, comparison.data).write(path)
    return Fitted(row, path)
