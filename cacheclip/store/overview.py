"""What a home holds, one line a data set and encoder, and what is to be done about it."""

from dataclasses import dataclass

from cacheclip.errors import StoreError
from cacheclip.store.features import VIEWS
from cacheclip.store.folders import there
from cacheclip.store.home import Home, Labels
from cacheclip.store.scan import Found, last_times, scan, texts_of
from cacheclip.store.schema import ENCODER, LAYERS, PARTS, SPLITS, TEXT, TOKENS

HEADERS = ("data set", "encoder", "/".join(SPLITS), "beside images", "MB", "state")
USUAL = ("image", "pre-projection", ENCODER, TOKENS)  # what no line needs to say: `info` does

KINDS = (*LAYERS, *(layer + VIEWS for layer in LAYERS), TEXT, "sentences", *PARTS)


@dataclass(frozen=True)
class Line:
    """One feature set, finished or not.

    Attributes:
        dataset: id of the data set.
        encoder: model, weights, and the precision where it is not float32.
        rows: split -> pictures.
        layers: what there is of each picture, `text`, and parts of the encoder.
        bytes: size on disk, earlier pictures and other prompts included.
        state: complete, or how far it has got.
        finish: the command that completes it; None where it is complete.
    """

    dataset: str
    encoder: str
    rows: dict[str, int]
    layers: tuple[str, ...]
    bytes: int
    state: str
    finish: str | None

    def as_cells(self) -> list[str]:
        """The line as the table prints it, under `HEADERS`."""
        rows = "/".join(f"{self.rows.get(split, 0):,}" for split in SPLITS)
        size = f"{self.bytes / 1e6:.1f}"
        more = ", ".join(layer for layer in self.layers if layer not in USUAL)
        return [self.dataset, self.encoder, rows, more, size, self.state]


@dataclass(frozen=True)
class Overview:
    """What a home holds.

    Attributes:
        lines: one a feature set, by data set.
        problems: a line for each file and folder that cannot be read, with the way back.
    """

    lines: list[Line]
    problems: list[str]


def overview(home: Home) -> Overview:
    """All feature sets of a home; the one that commands take by default is marked."""
    last = home.last_extraction()
    datasets, errors = home.looked_through()
    lines = []
    for dataset in datasets:
        stores, labels, wrong = _read(home, dataset)
        errors += wrong
        times = last_times(home, dataset)
        texts = [store for store in stores if store.layer in (TEXT, *PARTS)]
        sets: dict[str, list[Found]] = {}
        for store in stores:
            if store.set_digest is not None:
                sets.setdefault(store.set_digest, []).append(store)
        for digest, images in sets.items():
            newest = last is not None and digest == last["set"]
            own = list(texts_of(texts, images, None))
            lines.append(_line(dataset, images, own, labels, times.get(digest), newest=newest))
    said = [f"{error.where}: {error.what}; fix: {error.fix}" for error in errors]
    return Overview(lines, [*dict.fromkeys(said), *home.log_notices()])


def _read(home: Home, dataset: str) -> tuple[list[Found], Labels | None, list[StoreError]]:
    """The stores and labels of a data set as far as they can be read, and why others cannot."""
    stores, labels, errors = [], None, []
    try:
        stores = scan(home, dataset)
        errors = [store.problem for store in stores if store.problem is not None]
        if there(home.labels_file(dataset)):
            labels = home.labels(dataset)
    except StoreError as error:
        errors.append(error)
    return stores, labels, [home.with_command(dataset, error) for error in errors]


def _line(
    dataset: str,
    images: list[Found],
    texts: list[Found],
    labels: Labels | None,
    extracted: str | None,
    *,
    newest: bool,
) -> Line:
    """One feature set.

    Args:
        dataset: id of the data set.
        images: its stores of pictures.
        texts: its stores of text and of the encoder's parts.
        labels: those of the data set, None where there are none.
        extracted: when it was completed last, None if never.
        newest: whether nothing was extracted after it.
    """
    current = [store for store in images if store.is_of(labels)]
    wanted = [] if labels is None else [s for s, own in labels.splits.items() if len(own.labels)]
    have = {store.split for store in current if store.kind == "image" and store.complete}
    begun = [
        store for store in images if store not in current and store.created >= (extracted or "")
    ]
    unfinished = [store for store in begun if not store.complete or extracted is None]
    shown, finish = current or images, None
    if labels is not None and not set(wanted) - have:
        state = "complete, extracted last" if newest else "complete"
        if unfinished:
            state = f"complete; {_shards(begun)} of its newer pictures"
            finish = _command(begun)
        elif more := [store for store in current if not store.complete]:
            state += f"; {_shards(more)} of {', '.join(sorted({own.kind for own in more}))}"
            finish = _command(more)
    elif current or unfinished:
        shown = current or begun
        state, finish = f"incomplete, {_shards(shown)}", _command(shown)
    else:
        state, finish = "of earlier pictures", _command(images)
    encoder = shown[0].key["encoder"]
    dtype = shown[0].key["compute"]["dtype"]
    precision = "" if dtype == "float32" else f" {dtype}"
    layers = {store.kind for store in (*shown, *texts)}
    return Line(
        dataset=dataset,
        encoder=f"{encoder['name']} {encoder['pretrained']}{precision}",
        rows={s.split: s.key["data"]["samples"] for s in shown if s.kind == "image"},
        layers=tuple(kind for kind in KINDS if kind in layers),
        bytes=sum(store.bytes for store in (*images, *texts)),
        state=state,
        finish=finish,
    )


def _shards(stores: list[Found]) -> str:
    done, total = sum(store.done for store in stores), sum(store.total for store in stores)
    return f"{done} of {total} shards"


def _command(stores: list[Found]) -> str | None:
    """The command line of the store begun last."""
    header = max(stores, key=lambda store: store.created).header
    return None if header is None else header.extract_command
