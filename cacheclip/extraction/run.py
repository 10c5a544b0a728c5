"""Stage one from end to end: data set x encoder x prompts -> stores."""

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from cacheclip.encoders.base import NANO, Encoder, load
from cacheclip.encoders.hub import NoWeightsError
from cacheclip.errors import StoreError
from cacheclip.extraction import memo
from cacheclip.extraction.fill import FAILURES_SHOWN, Extraction
from cacheclip.extraction.labelling import labels_of
from cacheclip.extraction.memo import Note
from cacheclip.extraction.plan import ExtractRequest, Plan, Progress, make_plan
from cacheclip.extraction.reading import low_range
from cacheclip.store.folders import there
from cacheclip.store.home import Home, Labels
from cacheclip.store.key import extract_command
from cacheclip.store.reader import Store
from cacheclip.store.regions import write_regions
from cacheclip.store.schema import REGIONS_SPLIT, named


@dataclass(frozen=True)
class ExtractReport:
    """What an extraction did.

    Attributes:
        dataset: the resolved id.
        model: the encoder's name.
        pretrained: its weights.
        encoded: pictures that went through the encoder and have features.
        reused: pictures whose features were there already, or were copied from another store.
        failed: pictures that could not be read or encoded; they stay in the store, by name.
        notices: one line each, for the user.
        stores: the folders of the stores of pictures, of the encoder's parts and of the text.
        set_digest: digest of the feature set.
        seconds: wall time.
    """

    dataset: str
    model: str
    pretrained: str
    encoded: int
    reused: int
    failed: int
    notices: tuple[str, ...]
    stores: tuple[Path, ...]
    set_digest: str
    seconds: float

    def as_json(self) -> dict[str, Any]:
        """The report as `--json` prints it."""
        return asdict(self) | {"stores": [str(path) for path in self.stores]}


def run(
    request: ExtractRequest,
    home: Home,
    progress: Progress = lambda what, done, total: None,
    notice: Callable[[str], None] = lambda line: None,
) -> ExtractReport:
    """Encode all splits of a data set and its prompts, as far as they are not there yet.

    Shards that are finished stay, however the run ends; the next one goes on with what is missing.
    Data are looked for before weights, and a repeated extraction loads no torch.

    Args:
        request: what to encode, with what.
        home: where the stores go.
        progress: called with "texts" or "pictures", the count done, and the count in all.
        notice: called with each line of the report's notices once it is known: some are worth
            reading before hours of work.

    Raises:
        InputError: the data are missing or empty, or more pictures failed than are allowed.
        MachineError: weights, a package or the GPU are missing.
        StoreError: a store is locked by another process, or damaged.
    """
    started = time.monotonic()
    home.refuse_closed()
    plan = make_plan(request, home)
    home.refuse_closed(plan.dataset.id)
    key = memo.memo_digest(plan)
    note = memo.recall(home, key, plan)
    encoded = 0
    notices: list[str] = []

    def say(*lines: str) -> None:
        for line in lines:
            notices.append(line)
            notice(line)

    say(*plan.notices, *home.log_notices())
    if note is None and home.memo(key) is None and there(home.memo_file(key)):
        say("the note of what is there already was damaged and is made anew")
    if note is not None:
        say("everything is there already: nothing was encoded")
    else:
        if request.white_level is None and (line := low_range(plan.dataset)):
            say(line)
        encoder = _encoder(plan, home)
        extraction = Extraction(plan, home, encoder, progress)
        note = extraction.run()
        encoded = extraction.encoded
        say(*extraction.notices, *extraction.beside)
        if not extraction.notices:  # they are worth telling every time
            home.remember(key, asdict(note))
        if extraction.copied:
            say(f"re-used {extraction.copied:,} rows, encoded {encoded:,}")
    if note.truncated:
        say(f"{note.truncated} prompts were cut to the encoder's context length")
    if note.failed:
        names = "; ".join(_failed(home, note)[:FAILURES_SHOWN])
        say(f"{note.failed} of {plan.rows} pictures failed ({names}); --retry-failed tries again")
    say(*_record(plan, home, note))
    return ExtractReport(
        dataset=plan.dataset.id,
        model=note.model,
        pretrained=note.pretrained,
        encoded=encoded,
        reused=plan.rows - encoded - note.failed,
        failed=note.failed,
        notices=tuple(notices),
        stores=tuple(home.root / place for place in note.places),
        set_digest=note.set_digest,
        seconds=time.monotonic() - started,
    )


def _encoder(plan: Plan, home: Home) -> Encoder:
    """The encoder asked for; an error of its weights names the one that ships."""
    try:
        return load(plan.encoder)
    except NoWeightsError as error:
        root = plan.dataset.root
        asked = {**plan.asked, "model": NANO, "pretrained": None, "preprocess_from": None}
        command = extract_command(
            plan.dataset.id, asked, root=None if root is None else str(root), home=home.option
        )
        fix = f"{command} (ships with cacheclip, needs no network), or {error.fix}"
        raise NoWeightsError(error.what, where=error.where, fix=fix) from error


def _failed(home: Home, note: Note) -> list[str]:
    """Every picture without features, by name and reason."""
    opened = [Store.open(home.root / place, home.option) for place in note.stores]
    images = [store for store in opened if store.is_plain and store.failed]
    return [line for store in images for line in named(store.failures(), store.ids())]


def _record(plan: Plan, home: Home, note: Note) -> list[str]:
    """Make the set usable and the last one; labels first, for the log is what people go by.

    Hours may lie between the plan and this, so the labels that are there are looked at again.

    Returns:
        What there is to say of labels that others have written in the meantime.
    """
    with home.holding(plan.dataset.id):
        labels, kept = _labels_now(plan, home)
        if (own := plan.boxes) is not None:
            folder = home.dataset_folder(plan.dataset.id)
            samples = labels.splits[REGIONS_SPLIT].ids_sha256
            write_regions(folder, own.proposals, own.annotations, samples)
        home.write_labels(labels)
    home.record_extraction(
        dataset=plan.dataset.id,
        model=note.model,
        pretrained=note.pretrained,
        set_digest=note.set_digest,
        text_digest=note.text_digest,
        sentences_digest=note.sentences_digest,
        root=plan.dataset.root,
    )
    return [line for line in kept if line not in plan.notices]


def _labels_now(plan: Plan, home: Home) -> tuple[Labels, tuple[str, ...]]:
    try:
        if home.labels(plan.dataset.id) == plan.labels:
            return plan.labels, ()
    except StoreError:
        pass  # none are there, or they are put aside
    return labels_of(plan.dataset, home, plan.names)
