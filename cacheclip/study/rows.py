"""From outcomes to result rows, predictions and bundles."""

from datetime import UTC, datetime

import numpy as np

from cacheclip import __version__
from cacheclip.bundle import Bundle
from cacheclip.disk import digest, publish_json, publishing
from cacheclip.draws import Draw
from cacheclip.methods.base import Trained
from cacheclip.results import PROTOCOL_VERSION, Row
from cacheclip.store.home import Home
from cacheclip.study.data import SetData
from cacheclip.study.plan import Block
from cacheclip.study.run import Outcome, Winner


def row(block: Block, outcome: Outcome, data: SetData) -> Row:
    """The row of one cell, with `error` where it has no result."""
    features, draw = data.features, outcome.draw
    winner = outcome.result if isinstance(outcome.result, Winner) else None
    encoder = features.encoder
    splits = _splits_read(block, draw) | {"test"}
    stores = data.stores(sorted(splits), text=bool(block.method.text))
    candidates = outcome.cell.candidates
    seed = outcome.cell.seed
    seconds, size = (winner.stack_seconds, len(winner.stack.variants)) if winner else (0.0, 1)
    chosen = winner.settings if winner else candidates[0] if len(candidates) == 1 else {}
    return Row(
        dataset=features.dataset,
        eval_dataset=features.dataset,
        classes="all",
        model=encoder["name"],
        pretrained=encoder["pretrained"],
        encoders=[f"{encoder['name']}@{encoder['pretrained']}"],
        template=features.text.template if features.text else "",
        method=block.method.name,
        method_version=block.method.version,
        recipe=None,
        hparams=dict(chosen),
        shots=block.shots,
        seed=seed,
        init_seed=seed if issubclass(block.method, Trained) else None,
        select=block.policy.name,
        draw="ranked",
        draw_id=draw.draw_id if draw else None,
        test_id=data.test_id,
        views=None,
        keys=None,
        n_classes=len(data.classnames),
        n_train=len(draw.support) if draw else 0,
        n_val=len(draw.val) if draw and outcome.val_top1 else 0,
        n_test=len(data.split("test").rows),
        n_failed=sum(data.split(split).failed for split in splits),
        top1_val=max(outcome.val_top1.values()) if outcome.val_top1 else None,
        top1_test=float(outcome.scores.top1[0]) if outcome.scores else None,
        curve=_curve(outcome),
        store_key=digest(stores)[:16],
        stores=stores,
        labels=features.labels.digest,
        protocol_version=PROTOCOL_VERSION,
        seconds=seconds / size,
        stack_seconds=seconds,
        stack_size=size,
        device=data.device.type,
        version=__version__,
        time=datetime.now(UTC).isoformat(timespec="seconds"),
        error=None if winner else str(outcome.result),
    )


def bundle(block: Block, outcome: Outcome, winner: Winner, data: SetData) -> Bundle:
    """The adapted classifier; it names nothing of the test split."""
    features, draw = data.features, outcome.draw
    return Bundle(
        method=block.method.name,
        method_version=block.method.version,
        static=winner.method.settings,
        hparams=winner.settings,
        layers=list(block.method.needs),
        classnames=list(data.classnames),
        encoder=dict(features.encoder),
        preprocess=dict(features.preprocess),
        provenance={
            "dataset": features.dataset,
            "template": features.text.template if features.text else "",
            "shots": block.shots,
            "seed": outcome.cell.seed,
            "select": block.policy.name,
            "draw_id": draw.draw_id if draw else None,
            "stores": data.stores(sorted(_splits_read(block, draw)), text=bool(block.method.text)),
            "version": __version__,
        },
        head={name: x[0].cpu().numpy() for name, x in winner.params.items()},
    )


def keep(home: Home, outcome: Outcome, row_id: str) -> None:
    """Publish the draw, and the predictions that paired tests and confusions read."""
    draw, scores = outcome.draw, outcome.scores
    if draw and not (path := home.root / "draws" / f"{draw.draw_id}.json").exists():
        publish_json(path, draw.record())
    if scores:
        path = home.root / "predictions" / f"{row_id}.npz"
        with publishing(path) as temporary, temporary.open("wb") as file:
            np.savez(
                file,
                predicted=scores.predicted[0],
                true_log_p=scores.true_log_p[0],
                top_p=scores.top_p[0],
            )


def _splits_read(block: Block, draw: Draw | None) -> set[str]:
    """The splits that the fit and the choice read."""
    if draw is None:
        return set()
    return {"train", "val"} if block.policy.selects and draw.val else {"train"}


def _curve(outcome: Outcome) -> list[dict[str, object]] | None:
    if not outcome.val_top1:
        return None
    return [
        {"hparams": dict(outcome.cell.candidates[k]), "top1_val": accuracy}
        for k, accuracy in sorted(outcome.val_top1.items())
    ]
