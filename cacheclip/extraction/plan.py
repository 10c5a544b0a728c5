"""What one extraction is asked to do, checked before anything heavy is loaded."""

import shlex
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from math import inf
from pathlib import Path
from typing import TypeAlias, TypedDict

from cacheclip.datasets.base import DataSet, Source, resolve
from cacheclip.datasets.boxes import BoxSet
from cacheclip.datasets.images import Reading
from cacheclip.encoders.base import LOCAL_DIR, NANO, EncoderSpec
from cacheclip.errors import InputError, StoreError
from cacheclip.extraction.boxes import POOLS, boxes_of
from cacheclip.extraction.labelling import labels_of
from cacheclip.extraction.reading import KEPT, reading_of
from cacheclip.files import regular
from cacheclip.files.disk import sha256_lines
from cacheclip.files.refusals import RefusedError
from cacheclip.prompts.classnames import Speak, listed, read_classnames, spoken, spoken_apart
from cacheclip.prompts.ensemble import PromptSet, prompt_set, sentence_set
from cacheclip.prompts.templates import FAMILIES
from cacheclip.store.home import Home, Labels
from cacheclip.store.key import encoder_options, samples_sha256
from cacheclip.store.schema import SHIPPED_SENTENCES, SPLITS

Progress: TypeAlias = Callable[[str, int, int], None]
"""Called with what is being done ("texts", "pictures"), the count done, and the count in all."""

DEFAULT_ENCODER = ("ViT-B-32-quickgelu", "openai")
SHIPPED = frozenset({"clipart", "digits"})  # sets that travel with a package, as nano does
SHARE_BUILTIN = 0.001
SHARE_OWN = 0.01


@dataclass(frozen=True)
class ExtractRequest:
    """An extraction in the words of the command line.

    Attributes:
        dataset: a data set's name, `folder/PATH`, `csv/FILE`, or the path of a folder or table.
        model: the encoder; None takes nano for the sets that ship with a package, and
            ViT-B-32-quickgelu with OpenAI's weights otherwise.
        pretrained: a tag or a checkpoint file.
        preprocess_from: for a checkpoint file: a tag or a JSON file that tells the preprocessing.
        data_root: the folder that holds the data sets which do not ship with a package.
        download: fetch missing data.
        alias: the name that a folder's data set shall have.
        template: a family of prompts or a file of them; None takes the data set's own.
        classnames: a file of names for the classes; None takes the data set's own.
        device: `cpu`, `cuda`; None takes the GPU where there is one.
        precision: `fp32`, `fp16`, `bf16`; None lets the device decide.
        batch_size: pictures encoded at once; None takes 32 on a CPU and 256 on a GPU. Only a new
            store asks: an unfinished one goes on with its own.
        rows_per_shard: pictures in one file of a store; None takes a sixteenth of a split, at
            least 256 and at most 8,192. An interrupt loses the file in hand.
        max_failures: pictures that may be unreadable, as a count `12` or a share `2%`; None takes
            0.1 % for built-in sets and 1 % for the user's own, of which one always may be.
        retry_failed: encode pictures anew that failed before, although their files look the same.
        hash_files: notice replaced pictures by content instead of by size and time.
        orientation: `exif` or `as-stored`, for the user's own pictures; None stands for `exif`.
        white_level: the level that is white in the user's pictures of 16 bits.
        classes_from: `top` or `leaf`: which folders are classes where they hold folders alone.
        layers: what is kept beside the features of the pictures: of `EXTRA`.
        views: of each picture of split train, as augmented for training; None for none.
        sentences: a file of sentences by class, or the name of a data set whose sentences ship:
            kept beside the text of the templates.
        regions: a file of boxes, whose features are kept instead of those of whole pictures;
            `dataset` is the folder of these pictures.
        pool: one of `POOLS`, for boxes alone; None takes the first.
    """

    dataset: str
    model: str | None = None
    pretrained: str | None = None
    preprocess_from: str | None = None
    data_root: Path = Path("data")
    download: bool = False
    alias: str | None = None
    template: str | None = None
    classnames: Path | None = None
    device: str | None = None
    precision: str | None = None
    batch_size: int | None = None
    rows_per_shard: int | None = None
    max_failures: str | None = None
    retry_failed: bool = False
    hash_files: bool = False
    orientation: str | None = None
    white_level: int | None = None
    classes_from: str | None = None
    layers: tuple[str, ...] = ()
    views: int | None = None
    sentences: str | None = None
    regions: Path | None = None
    pool: str | None = None


class _Told(TypedDict):
    """What both kinds of prompts are made with."""

    dataset: str
    folders: Sequence[str]
    speak: Speak


@dataclass(frozen=True)
class Plan:
    """A checked request: the data are there, and it is clear what to encode with what."""

    request: ExtractRequest
    dataset: DataSet
    boxes: BoxSet | None  # where the samples are boxes
    labels: Labels
    names: Sequence[str] | None  # of the classes, where the user gave some
    prompts: PromptSet
    sentences: PromptSet | None
    encoder: EncoderSpec
    reading: Reading
    allowed: int
    notices: tuple[str, ...]

    @property
    def pool(self) -> str | None:
        """How a box gets its features, one of `POOLS`; None of whole pictures."""
        return None if self.boxes is None else self.request.pool or POOLS[0]

    @property
    def rows(self) -> int:
        """Pictures of all splits."""
        return sum(len(split.ids) for split in self.dataset.splits.values())

    @cached_property
    def sizes(self) -> dict[str, str]:
        """Split -> digest of its files' sizes, for built-in sets of files; no part of any key.

        Names alone tell such pictures apart, so this notices another copy of them: a resized one.
        """
        dataset = self.dataset
        if not dataset.builtin or dataset.root is None:
            return {}
        return {
            name: sha256_lines(str(_size(dataset.read(sample))) for sample in split.ids)
            for name, split in dataset.splits.items()
        }

    @property
    def asked(self) -> dict[str, object]:
        """The options that make this extraction again, from every folder; None where untold."""
        request, dataset = self.request, self.dataset
        placed = dataset.builtin and dataset.root is not None
        return {
            **asdict(self.encoder),
            "data_root": str(regular.expanded(request.data_root).absolute()) if placed else None,
            "template": _absolute_template(request.template),
            "classnames": request.classnames
            and str(regular.expanded(request.classnames).absolute()),
            "batch_size": request.batch_size,
            "rows_per_shard": request.rows_per_shard,
            "max_failures": request.max_failures,
            "hash_files": request.hash_files,
            "orientation": KEPT if request.orientation == KEPT else None,
            "white_level": request.white_level,
            "classes_from": request.classes_from,
            # Left out where they say nothing, for then key.json says what it always said.
            **({"layers": ",".join(request.layers)} if request.layers else {}),
            **({"views": request.views} if request.views else {}),
            **({"sentences": _absolute_sentences(request.sentences)} if request.sentences else {}),
            **({"regions": _absolute_file(str(request.regions))} if request.regions else {}),
            **({"pool": request.pool} if request.pool else {}),
        }


def make_plan(request: ExtractRequest, home: Home) -> Plan:
    """Find the data and choose the encoder; loads neither torch nor an encoder.

    Raises:
        InputError: the data are missing, empty, or of another list than the home knows by that
            name; the home lies within them; an option does not make sense.
    """
    boxes = boxes_of(request)
    dataset = _dataset(request) if boxes is None else boxes.dataset
    reading = reading_of(dataset, request.orientation, request.white_level)
    _refuse_empty(dataset)
    if dataset.root is not None:
        home.refuse_within(dataset.root)
    _refuse_other_list(dataset, home)
    file = request.classnames
    names = None if file is None else read_classnames(file, dataset.classnames)
    labels, kept = labels_of(dataset, home, names)
    prompts, sentences, warnings = _prompts(request, dataset, labels)
    notices = [*dataset.notices, *kept, *warnings, *_moved(dataset, home)]
    if names:  # of a file with a line a class, nothing else shows whose name is whose
        pairs = [f"{old} = {new}" for old, new in zip(dataset.classnames, names, strict=True)]
        notices.append(f"class names: {listed(pairs)}")
    model, pretrained = encoder_options(request.model, request.pretrained)
    if model is None:
        if pretrained is not None:
            raise InputError(
                "weights are named, but not the model that they belong to",
                where=f"--pretrained {pretrained}",
                fix="add --model NAME",
            )
        model, pretrained = (NANO, None) if dataset.id in SHIPPED else DEFAULT_ENCODER
        chosen = f"{model} {pretrained}" if pretrained else model
        notices.append(f"encoder {chosen} (the default for {dataset.id}; choose with --model)")
    rows = sum(len(split.ids) for split in dataset.splits.values())
    return Plan(
        request=request,
        dataset=dataset,
        boxes=boxes,
        labels=labels,
        names=names,
        prompts=prompts,
        sentences=sentences,
        encoder=EncoderSpec(
            model=_absolute_folder(model),
            pretrained=_absolute_file(pretrained),
            preprocess_from=_absolute_file(request.preprocess_from),
            device=request.device,
            precision=request.precision,
        ),
        reading=reading,
        allowed=allowed_failures(request.max_failures, rows=rows, builtin=dataset.builtin),
        notices=tuple(notices),
    )


def _dataset(request: ExtractRequest) -> DataSet:
    """The pictures that are asked for."""
    return resolve(
        request.dataset,
        data_root=request.data_root,
        download=request.download,
        alias=request.alias,
        hash_files=request.hash_files,
        classes_from=request.classes_from,
    )


def _prompts(
    request: ExtractRequest, dataset: DataSet, labels: Labels
) -> tuple[PromptSet, PromptSet | None, tuple[str, ...]]:
    """The prompts of templates, the sentences, and what the user should know of them."""
    folders, names = dataset.classnames, labels.classnames
    own = not dataset.builtin and list(names) == list(folders)
    told: _Told = {
        "dataset": dataset.id,
        "folders": folders if len(folders) == len(names) else (),
        "speak": spoken_apart if own else spoken,
    }
    prompts = prompt_set(names, family=dataset.templates, template=request.template, **told)
    said = [*prompts.notices, *prompts.warnings(own=own)]
    if request.sentences is None:
        return prompts, None, tuple(said)
    sentences = sentence_set(names, told=request.sentences, **told)
    return prompts, sentences, (*said, *sentences.notices)


def allowed_failures(told: str | None, *, rows: int, builtin: bool) -> int:
    """How many of `rows` pictures may be unreadable: a count, or a share rounded down.

    One bad file in a small folder of one's own is a matter of course, so it is always allowed.

    Raises:
        InputError: `told` is neither a count such as `12` nor a share such as `2%`.
    """
    if told is None:
        return int(rows * SHARE_BUILTIN) if builtin else max(1, int(rows * SHARE_OWN))
    number = told.strip().removesuffix("%")
    try:
        count = float(number) if "%" in told else int(number)
    except ValueError:
        count = -1
    if not 0 <= count <= (100 if "%" in told else inf):  # so that it is no NaN either
        raise InputError(
            f"{told!r} is neither a count nor a share",
            where="--max-failures",
            fix="write --max-failures 12 or --max-failures 2%",
        )
    return int(rows * count / 100) if "%" in told else int(count)


def _size(source: Source) -> int | None:
    """The size of a picture's file; None where it is none, or gone."""
    try:
        return source.stat().st_size if isinstance(source, Path) else None
    except OSError:
        return None


def _absolute_file(told: str | None) -> str | None:
    """A path that means the same from every folder; a tag as it is."""
    return str(Path(told).absolute()) if told is not None and Path(told).is_file() else told


def _absolute_template(told: str | None) -> str | None:
    """A file of templates as a path that means the same from everywhere; a family as it is."""
    return told if told is None or told in FAMILIES else str(regular.expanded(told).absolute())


def _absolute_sentences(told: str) -> str:
    """A file of sentences as a path that means the same from everywhere; a name as it is."""
    return told if told in SHIPPED_SENTENCES else str(regular.expanded(told).absolute())


def _absolute_folder(model: str) -> str:
    """A model's name; one that is a folder, as a path that means the same from everywhere."""
    if not model.startswith(LOCAL_DIR):
        return model
    return LOCAL_DIR + str(regular.expanded(model.removeprefix(LOCAL_DIR)).absolute())


def _refuse_empty(dataset: DataSet) -> None:
    empty = [name for name, split in dataset.splits.items() if not split.ids]
    if not empty and dataset.splits:
        return
    what = f"split {' and '.join(empty)} has no pictures" if empty else "there are no pictures"
    classes = Counter(label for split in dataset.splits.values() for label in split.labels)
    few = [name for label, name in enumerate(dataset.classnames) if classes[label] < len(SPLITS)]
    if few:
        shown = ", ".join(f"{name} {classes[dataset.classnames.index(name)]}" for name in few[:5])
        what += (
            f": a class needs at least {len(SPLITS)} pictures ({', '.join(SPLITS)}), and "
            f"{len(few)} of {len(dataset.classnames)} have fewer: {shown}"
        )
    raise InputError(
        what,
        where=f"data set {dataset.id}" + (f", {dataset.root}" if dataset.root else ""),
        fix="put pictures there, or name another folder: cacheclip extract --dataset PATH",
    )


def _moved(dataset: DataSet, home: Home) -> list[str]:
    """Tell that a built-in set lies elsewhere than before; a folder's own set is known by files."""
    before = _root_before(dataset, home)
    if before is None or not dataset.builtin:
        return []
    return [f"{dataset.id} lies in {dataset.root}; its last extraction found it in {before}"]


def _root_before(dataset: DataSet, home: Home) -> str | None:
    """Where the pictures of this name lay at the last extraction, if that was elsewhere."""
    roots = [line["root"] for line in home.extractions() if line["dataset"] == dataset.id]
    if not roots or roots[-1] is None or dataset.root is None:
        return None
    before = str(roots[-1])
    return None if Path(before).resolve() == dataset.root.resolve() else before


def _refuse_other_list(dataset: DataSet, home: Home) -> None:
    """A folder's data set is known by name; the name must not come to mean other pictures."""
    before = _root_before(dataset, home)
    if before is None or dataset.builtin:
        return
    try:
        labels = home.labels(dataset.id)
    except RefusedError:
        raise  # they may be well
    except StoreError:
        return  # lost or broken: they are made anew, of whatever pictures
    known = {name: split.ids_sha256 for name, split in labels.splits.items()}
    if known != {name: samples_sha256(split.ids) for name, split in dataset.splits.items()}:
        raise InputError(
            f"{dataset.id} is the name of other pictures in this home",
            where=f"{dataset.root} now, {before} before",
            fix="give these a name: cacheclip extract --dataset "
            f"{shlex.quote(str(dataset.root))} --name NAME{home.option}",
        )
