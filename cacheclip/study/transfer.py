"""A bundle's method for the classes of another feature set: nothing is trained."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from cacheclip.bundle import Bundle
from cacheclip.classifier import Classifier
from cacheclip.draws import Draw, Fewer, Shots
from cacheclip.engine import stack as engine
from cacheclip.engine.memory import default_limit
from cacheclip.errors import UsageError
from cacheclip.methods import base as methods
from cacheclip.methods.base import Method, Params, Trained
from cacheclip.store.features import VIEWED
from cacheclip.store.source import Source
from cacheclip.study.data import SetData
from cacheclip.study.score import Scores, score
from cacheclip.study.targets import is_same_encoder
from cacheclip.version import __version__


@dataclass(frozen=True)
class Transferred:
    """A classifier of other classes.

    Attributes:
        bundle: it; the temperature is that of the bundle it came from.
        scores: on the test pictures of the set, W = 1; None where there are none.
        draw: the shots that it read; None where it reads none.
    """

    bundle: Bundle
    scores: Scores | None
    draw: Draw | None


def transfer(
    bundle: Bundle, source: Source, shots: Shots, seed: int, fewer: Fewer = "error"
) -> Transferred:
    """Make the bundle of a set's classes, by their text and, if the method reads them, their shots.

    Args:
        bundle: of a method whose head takes any classes.
        source: the set, by the same encoder.
        shots: support pictures a class.
        seed: of their draw.
        fewer: `keep` takes what there is of a class with fewer pictures.

    Raises:
        UsageError: the method serves the classes that it learned from alone, or the encoder is
            another.
        CacheclipError: the set lacks what the method reads, or shots.
    """
    classifier = Classifier(bundle)
    method = classifier.method
    _refuse(bundle, method, source)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    data = SetData(source, device, default_limit(device))
    if lacking := data.lacking(method.reads, [method.views]):
        raise lacking
    draw = data.draw(shots, seed, fewer) if method.reads_new_shots else None
    task = data.task(type(method), [draw], [bundle.hparams])
    learned = {name: x.to(device) for name, x in classifier.params.items()}
    params = engine.head_elsewhere(method, learned, task)
    scores = score(method, params, data, [bundle.temperature]) if data.tested else None
    return Transferred(_made(bundle, method, params, data, shots, draw), scores, draw)


def _refuse(bundle: Bundle, method: Method, source: Source) -> None:
    """Refuse a bundle that knows its own classes alone, and features of another encoder.

    Raises:
        UsageError: it is such a one.
    """
    moved = method.trainable if isinstance(method, Trained) else ()
    if not method.transfers or not set(moved) <= set(bundle.head):
        raise UsageError(
            f"a bundle of {method.name} keeps what serves its own classes alone",
            where="the bundle",
            fix=f"take a bundle of {' or '.join(_able())}"
            + (", or compare --base-to-new, which fits anew" if method.transfers else ""),
        )
    if not is_same_encoder(bundle.encoder, source.encoder):
        raise UsageError(
            f"{source.dataset} has features of another encoder than the bundle's",
            where=f"{source.name}; the bundle: {bundle.encoder['name']}",
            fix=source.extract_command,
        )


def _able() -> Sequence[str]:
    """The methods whose bundles are there to serve other classes."""
    return [name for name in methods.names() if methods.get(name).reads_new_shots]


def _made(
    bundle: Bundle,
    method: Method,
    params: Params,
    data: SetData,
    shots: Shots,
    draw: Draw | None,
) -> Bundle:
    """The bundle of these classes, which says where what was learned comes from."""
    splits = [VIEWED] if draw else []
    return replace(
        bundle,
        classnames=list(data.classnames),
        head={name: x[0].cpu().numpy() for name, x in params.items()},
        provenance={
            "dataset": data.features.dataset,
            "template": data.texts.template(method.reads),
            "shots": shots if draw else 0,
            "seed": draw.seed if draw else None,
            "draw_id": draw.draw_id if draw else None,
            "stores": data.stores(method.reads, splits, [method.views]),
            "version": __version__,
            "learned": bundle.provenance,
        },
    )
