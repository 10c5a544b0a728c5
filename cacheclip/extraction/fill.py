"""Filling the stores of one extraction: texts first, then the pictures split by split."""

import shlex
import shutil
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from cacheclip.encoders.base import Encoder
from cacheclip.errors import InputError, MachineError
from cacheclip.extraction import memo
from cacheclip.extraction.boxes import pooling
from cacheclip.extraction.labelling import files_of
from cacheclip.extraction.memo import Note
from cacheclip.extraction.parts import keep_parts
from cacheclip.extraction.passes import Pass, passes
from cacheclip.extraction.plan import Plan, Progress
from cacheclip.extraction.reuse import Reusable
from cacheclip.extraction.shard import SplitEncoder, Writers
from cacheclip.extraction.texts import keep_texts
from cacheclip.extraction.threads import batches_at_once
from cacheclip.prompts.ensemble import PromptSet
from cacheclip.store.header import update_header
from cacheclip.store.home import Home
from cacheclip.store.key import (
    Key,
    extract_command,
    image_key,
    key_digest,
    set_digest,
)
from cacheclip.store.parts import PartStore
from cacheclip.store.plan import read_plan
from cacheclip.store.reader import Store
from cacheclip.store.schema import (
    NONFINITE,
    ROWS_PER_SHARD,
    TOWER,
    Failure,
    named,
    usual_rows_per_shard,
)
from cacheclip.store.text import TextStore
from cacheclip.store.writer import ImageStoreWriter, drop_unused_plans

STORE_DTYPE = "float16"
CPU_BATCH = 32
GPU_BATCH = 256
FAILURES_SHOWN = 10


class Stopped(KeyboardInterrupt):
    """An interrupt of an extraction, with what it leaves behind."""

    def __init__(self, kept: int, rows: int) -> None:
        super().__init__(
            f"interrupted; {kept:,} of {rows:,} pictures are done and kept, the same command goes "
            "on with the rest"
        )


@dataclass(frozen=True)
class Job:
    """The pictures of one split on one way through the encoder."""

    split: str
    way: Pass


class Extraction:
    """One extraction that may have to encode.

    Attributes:
        encoded: pictures that went through the encoder as they are and have a vector.
        copied: pictures whose vectors another store had.
        beside: what was written beside the features of the pictures, a line each.
        notices: one line each, for the user.
    """

    def __init__(self, plan: Plan, home: Home, encoder: Encoder, progress: Progress) -> None:
        self._plan = plan
        self._home = home
        self._encoder = encoder
        self._progress = progress
        self._finished = 0
        self._failed: dict[Job, list[str]] = {}
        self._jobs: list[Job] = []
        self.encoded = 0
        self.copied = 0
        self.beside: list[str] = []
        self.notices: list[str] = []

    def run(self) -> Note:
        """Fill what is missing and say where all of it lies."""
        plan, home, encoder = self._plan, self._home, self._encoder
        text = self._texts(plan.prompts)
        sentences = None if plan.sentences is None else self._texts(plan.sentences)
        parts, new = keep_parts(plan, home, encoder, self._info())
        self.beside += [f"wrote the {TOWER}"] if TOWER in new else []
        for way in passes(plan, encoder):
            own = [Job(split, way) for split in plan.dataset.splits if split in way.splits]
            drop_unused_plans([path for job in own for path in self._paths(job).values()])
            self._jobs += own
        with ExitStack() as stack:
            # All stores are begun at once: whoever goes on with them finds one plan for them all.
            begun = {job: self._writers(job, stack) for job in self._jobs}
            self._refuse_no_room(begun)
            stores = self._fill(begun, stack.enter_context(batches_at_once(encoder.device)))
        whole: list[TextStore | PartStore] = [text, *parts, *([sentences] if sentences else [])]
        for store in whole:
            update_header(store.path, store.header, self._info())
        identity = self._encoder.identity
        return Note(
            model=identity["name"],
            pretrained=identity["pretrained"],
            set_digest=set_digest(**self._common(), dataset=self._plan.dataset.id),
            weights=memo.stamp(self._encoder.weights_file),
            stores=[self._place(store.path) for store in stores],
            parts=[self._place(part.path) for part in parts],
            text=self._place(text.path),
            text_digest=text.digest,
            failed=sum(store.failed for store in stores if store.is_plain),
            truncated=memo.truncated(text, sentences),
            sentences=None if sentences is None else self._place(sentences.path),
            sentences_digest=None if sentences is None else sentences.digest,
        )

    def _texts(self, prompts: PromptSet) -> TextStore:
        """The text store of some prompts."""
        dataset = self._plan.dataset.id
        return keep_texts(prompts, dataset, self._home, self._encoder, self._info(), self._progress)

    def _refuse_no_room(self, begun: Mapping[Job, Writers]) -> None:
        """Refuse before the first picture what the disk cannot hold: parts take far more."""
        width = int(self._encoder.identity["embed_dim"]) * np.dtype(STORE_DTYPE).itemsize
        needed = sum(
            spec.rows * job.way.vectors * width
            for job, writers in begun.items()
            for writer in writers.values()
            for spec in writer.missing
        )
        free = shutil.disk_usage(self._home.root).free
        if needed > free:
            raise MachineError(
                f"the features of these pictures take {needed / 1e9:.1f} GB, and the disk has "
                f"{free / 1e9:.1f} GB left",
                where=str(self._home.root),
                fix="choose a folder on another disk with --home, or ask for fewer --views and "
                "--layers",
            )

    def _fill(self, begun: Mapping[Job, Writers], at_once: int) -> list[Store]:
        """Encode what is missing of the stores that are begun, job by job."""
        works = {job: self._work(job, writers, at_once) for job, writers in begun.items()}
        renewed = sum(own.renewed for writers in begun.values() for own in writers.values())
        if renewed:
            self.notices.append(
                f"{renewed} records of finished shards were damaged and are made anew"
            )
        for job, work in works.items():
            self._notice_other_files(job.split, begun[job].values())
            work.retry(every=self._plan.request.retry_failed)
            self._failed[job] = self._named(job, work.failures())
        stores: list[Store] = []
        try:
            for job, work in works.items():
                self._encode(job, works)
                stores += [writer.finish() for writer in begun[job].values()]
                if job.way.is_plain:
                    self.encoded += work.encoded
                    self.copied += work.copied
                elif fresh := work.encoded + work.copied:
                    self.beside.append(f"wrote {job.way.name} of {fresh:,} {job.split} pictures")
        except KeyboardInterrupt:
            missing = {
                (job.split, row)
                for job, work in works.items()
                for spec in work.missing
                for row in range(spec.first, spec.first + spec.rows)
            }
            raise Stopped(self._plan.rows - len(missing), self._plan.rows) from None
        return stores

    def _place(self, path: Path) -> str:
        return path.relative_to(self._home.root).as_posix()

    def _paths(self, job: Job) -> dict[str, Path]:
        """The folder of each layer's store."""
        keys = {layer: self._key(job, layer) for layer in job.way.layers}
        return {
            layer: self._home.store_path(self._plan.dataset.id, job.split, layer, key_digest(key))
            for layer, key in keys.items()
        }

    def _writers(self, job: Job, stack: ExitStack) -> dict[str, ImageStoreWriter]:
        """The writers of one job, one a layer, with the same shards and batch."""
        samples = self._plan.dataset.splits[job.split]
        paths = self._paths(job)
        rows_per_shard, batch = self._shape(job, paths)
        return {
            layer: stack.enter_context(
                ImageStoreWriter(
                    path,
                    self._key(job, layer),
                    ids=samples.ids,
                    files=samples.stamps,
                    rows_per_shard=rows_per_shard,
                    encode_batch=batch,
                    info={**self._info(), "sizes": self._plan.sizes.get(job.split)},
                    home=self._home.option,
                )
            )
            for layer, path in paths.items()
        }

    def _shape(self, job: Job, paths: Mapping[str, Path]) -> tuple[int, int]:
        """Rows a shard and pictures a batch: those of the plan that one of the stores has."""
        for layer, path in paths.items():
            try:
                begun = read_plan(path, self._key(job, layer), self._command())
            except FileNotFoundError:
                continue
            return begun.rows_per_shard, begun.encode_batch
        request, rows = self._plan.request, len(self._plan.dataset.splits[job.split].ids)
        usual = CPU_BATCH if self._encoder.device == "cpu" else GPU_BATCH
        rows_per_shard = request.rows_per_shard or usual_rows_per_shard(rows, job.way.vectors)
        batch = max(1, (request.batch_size or usual) // job.way.at_once)
        return rows_per_shard, min(batch, rows)

    def _work(self, job: Job, writers: Writers, at_once: int) -> SplitEncoder:
        samples = self._plan.dataset.splits[job.split]
        keys = {layer: writer.key for layer, writer in writers.items()}
        missing = any(writer.missing for writer in writers.values())
        return SplitEncoder(
            self._plan.dataset,
            job.split,
            self._plan.reading,
            job.way,
            writers,
            Reusable(self._home, keys, samples.ids, samples.stamps if missing else None),
            at_once,
            lambda pictures: self._advance(pictures * job.way.at_once),
        )

    def _encode(self, job: Job, works: Mapping[Job, SplitEncoder]) -> None:
        """Encode a split; refuse to go on as soon as too many pictures failed."""
        work = works[job]
        rows = len(self._plan.dataset.splits[job.split].ids)
        there = rows - sum(spec.rows for spec in work.missing)
        self._advance(there * job.way.at_once)
        self._refuse_too_many(works)
        for failures in work.shards():
            self._failed[job] += self._named(job, failures)
            self._refuse_too_many(works)
        # The store knows more of them: vectors that its type cannot hold.
        self._failed[job] = self._named(job, work.failures())
        self._refuse_too_many(works)

    def _notice_other_files(self, split: str, writers: Iterable[ImageStoreWriter]) -> None:
        """Tell where finished shards are of files of other sizes than those that lie there now."""
        now = self._plan.sizes.get(split)
        finished = [store for writer in writers if (store := writer.finished) is not None]
        if any(store.header.info.get("sizes", now) != now for store in finished):
            remove = shlex.join(["rm", "-r", *(str(store.path) for store in finished)])
            self.notices.append(
                f"the files of split {split} have other sizes than those that were encoded, whose "
                f"features are kept; to encode these: {remove} && {self._command()}"
            )

    def _named(self, job: Job, failures: Sequence[Failure]) -> list[str]:
        return list(named(failures, self._plan.dataset.splits[job.split].ids))

    def _refuse_too_many(self, works: Mapping[Job, SplitEncoder]) -> None:
        plan = self._plan
        failed = _each_once(self._failed)
        if len(failed) <= plan.allowed:
            return
        unread = sum(spec.rows for work in works.values() for spec in work.missing)
        whole = unread <= ROWS_PER_SHARD  # few enough to see all the bad ones at once
        if whole:
            unseen = {job: self._named(job, work.unread()) for job, work in works.items()}
            failed = _each_once({job: [*self._failed[job], *unseen[job]] for job in works})
        shown = "; ".join(failed[:FAILURES_SHOWN])
        more = len(failed) - FAILURES_SHOWN
        nonfinite = any(f": {NONFINITE}: " in line for line in failed)
        raise InputError(
            f"{len(failed)} of {plan.rows:,} pictures failed{'' if whole else ' so far'}, "
            f"{plan.allowed} may (finished shards are kept)",
            where=f"{plan.dataset.id}: {shown}" + (f"; and {more} more" if more > 0 else ""),
            fix="compute in another precision: --precision bf16 or fp32"
            if nonfinite
            else f"{self._command(max_failures=len(failed))} allows "
            f"{'them' if whole else 'that many, and may need more'}; or repair the pictures, then: "
            f"{self._command(retry_failed=True)}",
        )

    def _key(self, job: Job, layer: str) -> Key:
        samples = self._plan.dataset.splits[job.split]
        return image_key(
            layer=layer,
            **self._common(),
            dataset=self._plan.dataset.id,
            split=job.split,
            ids=samples.ids,
            files_sha256=files_of(samples),
            views=job.way.views,
        )

    def _common(self) -> dict[str, Any]:
        return {
            "encoder": self._encoder.identity,
            "preprocess": {
                **self._encoder.preprocess,
                **self._plan.reading.preprocess(),
                **pooling(self._plan.pool),
            },
            "compute": self._encoder.compute,
            "store_dtype": STORE_DTYPE,
        }

    def _info(self) -> dict[str, Any]:
        """What people may want to know of a store; no part of its key."""
        return {
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
            "versions": memo.versions(),
            "device": self._encoder.device,
            "dataset": self._plan.dataset.id,
            "root": self._root,
            "weights_file": str(self._encoder.weights_file),
            "asked": self._plan.asked,
        }

    @property
    def _root(self) -> str | None:
        root = self._plan.dataset.root
        return None if root is None else str(root)

    def _command(self, **changes: object) -> str:
        """The command line of this extraction, with some options changed."""
        asked = {**self._plan.asked, **changes}
        dataset = self._plan.dataset.id
        return extract_command(dataset, asked, root=self._root, home=self._home.option)

    def _advance(self, pictures: int) -> None:
        self._finished += pictures
        splits = self._plan.dataset.splits
        total = sum(len(splits[job.split].ids) * job.way.at_once for job in self._jobs)
        self._progress("pictures", self._finished, total)


def _each_once(failed: Mapping[Job, Sequence[str]]) -> list[str]:
    """The lines of failed pictures; one that fails in one way mostly does in the others too."""
    lines = {(job.split, line): line for job, own in failed.items() for line in own}
    return list(lines.values())
