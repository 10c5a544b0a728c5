"""The classifier that goes to work: settings as chosen, learned from every label there is.

It comes after the choice and the test. No picture is left that could test it, so what is known of
its accuracy is that of the fit before.
"""

from collections.abc import Callable
from dataclasses import replace

from cacheclip.bundle import Bundle
from cacheclip.engine import stack as engine
from cacheclip.engine.watch import STOPPED
from cacheclip.errors import FitError, UsageError, argument
from cacheclip.study import rows
from cacheclip.study.data import SetData
from cacheclip.study.heads import Heads
from cacheclip.study.plan import Block
from cacheclip.study.run import Outcome


def refuse_final(block: Block) -> None:
    """Refuse a method that leaves no bundle or learns nothing from labels, and views.

    Raises:
        UsageError: it is such a method, or views of the pictures are asked for.
    """
    method = block.method
    refuse_bundle(block, "--final")
    if method.learns != "support":
        raise UsageError(
            f"{method.name} has nothing to refit: it learns from no labelled picture",
            where="--final",
            fix=f"cacheclip fit --method {method.name}, without --final",
        )
    if any(method.of(own).views > 1 for cell in block.cells for own in cell.candidates):
        raise UsageError(
            "--final learns from the pictures of all splits, and there are views of train alone",
            where=f"--set {method.name}.views",
            fix="leave --final out, or --set views",
        )


def refuse_bundle(block: Block, option: str) -> None:
    """Refuse an option of the bundle for a method or policy that leaves none.

    Raises:
        UsageError: it is such a one.
    """
    method = block.method
    if block.policy.held == "test":
        raise UsageError(
            "settings that were tuned on test leave no bundle",
            where=argument("select", block.policy.name),
            fix=f"leave {option} out, or take another {argument('select')}",
        )
    if method.setting != "inductive":
        raise UsageError(
            f"{method.name} leaves no bundle: it answers for a whole test set or stream",
            where=option,
            fix=f"leave {option} out, or take a method that `cacheclip methods` calls inductive",
        )


def refit(
    block: Block,
    outcome: Outcome,
    winner: Heads,
    data: SetData,
    notice: Callable[[str], None],
) -> Bundle:
    """The bundle of the winner's settings, fitted on the labelled pictures of all splits.

    Args:
        block: the cell's.
        outcome: scored.
        winner: its winner.
        data: the feature set.
        notice: called with a line for the user.

    Raises:
        FitError: the fit is not finite.
    """
    method, (variant,) = winner.method, winner.variants
    task = data.whole_task(block.method, variant.settings)
    fits = engine.fit(
        method,
        task,
        [variant.seed],
        lambda share: None,
        data.limit,
        notice,
        epochs=_epochs(outcome),
    )
    ((_, _, params),) = fits
    if not bool(engine.finite(method, params).all()):
        raise FitError(
            "the fit on the pictures of all splits is not finite or did not converge",
            where=", ".join(f"{name}={value}" for name, value in winner.settings.items()),
            fix="leave --final out, or use less extreme settings",
        )
    whole = replace(winner, params=engine.head(method, params, task))
    made = rows.bundle(block, outcome, whole, data)
    of_all = {
        "final": True,
        "n_train": task.rows.shape[1],
        "stores": data.stores(
            replace(winner.method.reads, query=winner.method.reads.support), data.labelled_splits
        ),
    }
    return replace(made, provenance=made.provenance | of_all, learned=method.learned(params))


def _epochs(outcome: Outcome) -> int | None:
    """The epochs that a search on validation pictures found; None leaves them to the settings."""
    winner = outcome.race.winner
    found = winner.params.get(STOPPED) if winner else None
    return None if found is None else int(found)
