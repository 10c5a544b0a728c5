"""The selection policy of a study, where the feature set has the validation images for it."""

from cacheclip.errors import UsageError, argument
from cacheclip.select import base as policies
from cacheclip.select.base import Policy
from cacheclip.store.source import About
from cacheclip.study.data import SetData

WITHOUT_VAL = "support-loo"  # where there are no validation pictures


def policy_for(name: str | None, data: SetData) -> Policy:
    """The policy asked for, or the default; a selecting one needs validation images.

    `fewshot-val` draws from every class; `full-val` takes what there is, of two classes at least;
    `support-loo` wants none, and `test-oracle` wants test pictures.

    Args:
        name: of the policy; None for the default.
        data: the feature set.

    Raises:
        UsageError: there is no such policy, or it has too few validation images.
    """
    val = set(data.pool("val").labels) - {-1}
    complete = len(val) == len(data.classnames)
    if name is None:
        name = "full-val" if data.features.own else "fewshot-val" if complete else WITHOUT_VAL
        name = name if len(val) > 1 else WITHOUT_VAL
    policy = policies.get(name)
    if (policy.held == "few" and not complete) or (policy.held == "all" and len(val) < 2):
        wanted = "every class" if policy.held == "few" else "two classes at least"
        raise UsageError(
            f"{argument('select', policy.name)} needs validation pictures of {wanted}",
            where=f"data set {data.features.dataset}, split val",
            fix=f"use {argument('select', 'full-val' if len(val) > 1 else WITHOUT_VAL)}"
            + _more_val(data.features),
        )
    if policy.held == "test" and not data.tested:
        raise UsageError(
            f"{argument('select', policy.name)} needs test images",
            where=f"data set {data.features.dataset}",
            fix=f"use {argument('select', 'fixed')}",
        )
    return policy


def _more_val(features: About) -> str:
    """What else would help: validation images, where they are the user's to give."""
    how = {
        "folder": "put pictures of each class into val/CLASS beside train/CLASS",
        "csv": "say val in the column split of some rows of each class",
        "npz": "make split val of some rows of each class",
    }.get(features.dataset.partition("/")[0])
    return f"; or {how}, then: {features.extract_command}" if how else ""
