"""From outcomes to result rows and bundles."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from math import isfinite
from typing import Any

import numpy as np

from cacheclip.bundle import Bundle
from cacheclip.draws import Draw
from cacheclip.engine.watch import STOPPED
from cacheclip.files.disk import digest
from cacheclip.methods.base import Method, Value
from cacheclip.metrics import macro, wilson
from cacheclip.results import PROTOCOL_VERSION, Row
from cacheclip.select import base as policies
from cacheclip.store.features import VIEWED
from cacheclip.study.calibration import LEFT_OUT, Calibration
from cacheclip.study.data import SetData
from cacheclip.study.heads import Heads
from cacheclip.study.plan import Block, Cell
from cacheclip.study.race import Race
from cacheclip.study.run import Outcome
from cacheclip.study.score import Scores
from cacheclip.study.supports import RANKED
from cacheclip.study.table import VALIDATION
from cacheclip.study.targets import Target
from cacheclip.version import __version__

TESTED = "the test pictures: no result of a method"
ONE_EACH = "nothing: a class has one support picture, so the constants stand"

# What a row says of its run before there was one.
NOT_RUN: Mapping[str, Any] = {
    "n_val": 0,
    "top1_val": None,
    "top1_test": None,
    "curve": None,
    "seconds": 0.0,
    "stack_seconds": 0.0,
    "stack_size": 0,
    "precision": None,
    "time": "",
}


def planned(block: Block, cell: Cell, data: SetData) -> Row:
    """The row of a cell before it runs: all that decides its result, and so its row_id."""
    drawn = cell.draw if isinstance(cell.draw, Draw) else None
    splits = [*_splits_read(block, data), *(["test"] if data.tested else [])]
    rivals = [block.method.of(settings) for settings in cell.candidates]
    reads = rivals[0].reads
    views = sorted({rival.views for rival in rivals})
    stores = data.stores(reads, splits, views)
    chooses = block.policy.selects
    return Row(
        **_of_data(data),
        encoders=data.encoders(reads),
        views=None if views == [1] else ",".join(map(str, views)),
        template=data.texts.template(reads),
        method=block.method.name,
        method_version=block.method.version,
        recipe=block.recipe,
        hparams={} if chooses else dict(cell.candidates[0]),
        candidates=digest(list(cell.candidates))[:16],
        shots=block.shots,
        seed=cell.seed,
        init_seed=cell.init_seed,
        select=block.policy.name,
        draw=data.supports.procedure if block.drawn else RANKED,
        draw_id=drawn.draw_id if drawn else None,
        **NOT_RUN,
        n_train=len(drawn.support) if drawn and block.method.learns == "support" else 0,
        n_failed=sum(data.failed(split) for split in splits),
        store_key=digest(stores)[:16],
        stores=stores,
        protocol_version=PROTOCOL_VERSION,
        version=__version__,
        fewer="keep" if drawn and drawn.short else "error",
        choice_version=policies.VERSION if chooses else 1,
        text_norm=data.texts.norm if reads.raw_text else None,
        setting=block.method.setting,
        constants=None if chooses else cell.untouched,
        given=_given(cell, chooses=chooses),
    )


def unread(data: SetData, rows: Sequence[Row]) -> list[str]:
    """A line where there is a second encoder and no row reads it."""
    aux = data.features.aux
    if aux is None or any(aux.name in row.encoders[1:] for row in rows):
        return []
    readers = "amu does, gp with encoders=2"
    return [f"nothing here reads the second encoder, {aux.name}: {readers}"]


def _given(cell: Cell, *, chooses: bool) -> dict[str, list[Value]]:
    """The settings that the user gave: all their values, or under `fixed` this row's."""
    if chooses:
        return {name: list(values) for name, values in cell.given.items()}
    own = cell.candidates[0]
    return {name: [own.get(name, values[0])] for name, values in cell.given.items()}


def _of_data(data: SetData) -> dict[str, Any]:
    """The fields of a row that say what it learned from and is tested on."""
    features = data.features
    return {
        "dataset": features.dataset,
        "eval_dataset": features.dataset,
        "classes": data.classes,
        "model": features.encoder["name"],
        "pretrained": features.encoder["pretrained"],
        "keys": None,
        "test_id": data.test_id,
        "n_classes": len(data.classnames),
        "n_test": len(data.good_rows("test")),
        "labels": data.labels_digest,
        "labels_corrected": data.labels_corrected,
        "device": data.device.type,
        "classnames": data.named,
    }


def elsewhere(row: Row, drawn: Draw | None, target: Target, method: Method) -> Row:
    """The row of the same cell on a target, before it runs.

    Args:
        row: that of the classes that it learns from.
        drawn: what it learns from.
        target: what it is tested on.
        method: one that competes.
    """
    data, learned = target.data, target.learned
    shifted = data.features.dataset != learned.features.dataset
    draw = target.support(drawn) if drawn and method.reads_new_shots else None
    stores = row.stores
    if shifted:
        stores = {name: own for name, own in stores.items() if not name.startswith("test/")}
        stores = stores | data.test_stores(method.reads)
        stores |= _eval_stores(target, method, [VIEWED] if draw else [])
    failed = row.n_failed - learned.failed("test") + data.failed("test")
    labels = digest([row.labels, data.labels_digest]) if shifted else data.labels_digest
    return replace(
        row,
        eval_dataset=data.features.dataset,
        classes=data.classes,
        learned_classes=learned.classes,  # whose held-out pictures its temperature is fitted on
        test_id=data.test_id,
        n_classes=len(data.classnames),
        n_test=len(data.good_rows("test")),
        n_failed=failed,
        stores=stores,
        store_key=digest(stores)[:16],
        labels=labels,
        labels_corrected=row.labels_corrected or data.labels_corrected,
        classnames=data.named,
        eval_draw_id=draw.draw_id if draw else None,
    )


def _eval_stores(target: Target, method: Method, splits: Sequence[str]) -> dict[str, str]:
    """What the head of another set's classes is made of, beside its test pictures."""
    if target.columns is not None and not splits:
        return {}
    stores = target.data.stores(method.reads, splits, [method.views])
    return {f"eval/{name}": own for name, own in stores.items()}


def finished(row: Row, outcome: Outcome, classnames: Sequence[str]) -> Row:
    """The row of a cell that has run, with `error` where it has no result."""
    race = outcome.race
    winner = outcome.result if isinstance(outcome.result, Heads) else None
    judged = race.points if race.policy.held != "test" else []
    n_val = len(judged[0].log_p) if judged else 0
    return replace(
        row,
        hparams=dict(winner.settings) if winner else row.hparams,
        n_val=n_val,
        top1_val=race.front.hits / n_val if race.front and n_val else None,
        curve=_curve(outcome, n_val) if n_val else None,
        seconds=race.seconds / max(1, race.size),
        stack_seconds=race.seconds,
        stack_size=race.size,
        precision=winner.precision if winner else None,
        time=datetime.now(UTC).isoformat(timespec="seconds"),
        error=None if winner else str(outcome.result),
        learned=outcome.learned if winner else None,
        **(_calibrated(outcome.calibration) if outcome.calibration else {}),
        border=race.border if winner else None,
        chosen_on=_chosen_on(race) if winner else None,
        **(_tested(outcome.scores, classnames) if outcome.scores else {}),
    )


def _chosen_on(race: Race) -> str | None:
    """Which pictures a policy that chooses went by."""
    if not race.policy.selects:
        return None
    if race.policy.reads_val:
        return VALIDATION
    if race.policy.held == "test":
        return TESTED
    return LEFT_OUT if race.points else ONE_EACH


def _calibrated(calibration: Calibration) -> dict[str, Any]:
    """The fields of a row that its temperature decides."""
    return {
        "temperature": calibration.temperature,
        "n_calibration": calibration.n,
        "calibrated_on": calibration.on,
        "calibrated_within": calibration.within,
    }


def _tested(scores: Scores, classnames: Sequence[str]) -> dict[str, Any]:
    """The fields of a row that test labels decide."""
    label, top1 = scores.label, float(scores.top1[0])
    n_each = np.bincount(label, minlength=len(classnames))
    zero_shot = scores.zero_shot
    return {
        "top1_test": top1,
        "ci95_test": list(wilson(top1, len(label))),
        "macro_test": macro(scores.predicted[0] == label, label),
        "ece_test": float(scores.ece[0, 1]),
        "ece_test_raw": float(scores.ece[0, 0]),
        "nll_test": float(scores.nll[0, 1]),
        "nll_test_raw": float(scores.nll[0, 0]),
        "constant_test": int(n_each.max()) / len(label),
        "zero_shot_test": None if zero_shot is None else float((zero_shot == label).mean()),
        "untested": [name for name, n in zip(classnames, n_each, strict=True) if not n],
    }


def bundle(block: Block, outcome: Outcome, winner: Heads, data: SetData) -> Bundle:
    """The adapted classifier; it names nothing of the test split."""
    features, draw = data.features, outcome.draw
    aux = features.aux if len(data.encoders(winner.method.reads)) > 1 else None
    return Bundle(
        method=block.method.name,
        method_version=block.method.version,
        static=winner.method.settings,
        hparams=winner.settings,
        layers=list(winner.method.reads.query),
        classnames=list(data.classnames),
        encoder=dict(features.encoder),
        preprocess=dict(features.preprocess),
        provenance={
            "dataset": features.dataset,
            "template": data.texts.template(winner.method.reads),
            "shots": block.shots,
            "seed": outcome.cell.seed,
            "init_seed": outcome.cell.init_seed,
            "select": block.policy.name,
            "draw_id": draw.draw_id if draw else None,
            "stores": data.stores(
                winner.method.reads, _splits_read(block, data), [winner.method.views]
            ),
            "version": __version__,
        },
        head={n: x[0].cpu().numpy() for n, x in winner.params.items() if n != STOPPED},
        learned=outcome.learned,
        temperature=outcome.temperature,
        aux={"encoder": dict(aux.encoder), "preprocess": dict(aux.preprocess)} if aux else None,
    )


def _splits_read(block: Block, data: SetData) -> list[str]:
    """The splits that the fit and the choice read."""
    if not block.drawn:
        return []
    return ["train", "val"] if block.policy.reads_val and data.pool("val").ids else ["train"]


def _curve(outcome: Outcome, n_val: int) -> list[dict[str, object]]:
    """All settings tried with what they did on the validation images; null where one failed."""
    curve: list[dict[str, object]] = []
    for settings, points in outcome.race.tried:
        if not points:
            curve.append({"hparams": dict(settings), "top1_val": None, "nll_val": None})
        for point in points:
            nll = -float(point.log_p.mean())
            curve.append(
                {
                    "hparams": dict(point.settings),
                    "top1_val": point.hits / n_val,
                    "nll_val": round(nll, 6) if isfinite(nll) else None,
                }
            )
    return curve
