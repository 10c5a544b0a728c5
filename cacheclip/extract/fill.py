"""Filling the stores of one extraction: texts first, then the pictures split by split."""

import shlex
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from cacheclip.encoders.base import Encoder
from cacheclip.errors import InputError, StoreError
from cacheclip.extract import memo
from cacheclip.extract.labelling import files_of
from cacheclip.extract.memo import Note
from cacheclip.extract.parts import keep_parts
from cacheclip.extract.plan import Plan, Progress
from cacheclip.extract.reuse import Reusable
from cacheclip.extract.shard import SplitEncoder
from cacheclip.extract.threads import batches_at_once
from cacheclip.files.refusals import RefusedError
from cacheclip.store.header import update_header
from cacheclip.store.home import Home
from cacheclip.store.key import (
    Key,
    extract_command,
    image_key,
    key_digest,
    set_digest,
    text_key,
)
from cacheclip.store.plan import read_plan
from cacheclip.store.reader import Store
from cacheclip.store.schema import (
    NONFINITE,
    ROWS_PER_SHARD,
    Failure,
    named,
    usual_rows_per_shard,
)
from cacheclip.store.text import TextStore, write_text_store
from cacheclip.store.writer import ImageStoreWriter, drop_unused_plans

STORE_DTYPE = "float16"
CPU_BATCH = 32
GPU_BATCH = 256
TEXTS_AT_ONCE = 256
FAILURES_SHOWN = 10


class Stopped(KeyboardInterrupt):
    """An interrupt of an extraction, with what it leaves behind."""

    def __init__(self, kept: int, rows: int) -> None:
        super().__init__(
            f"interrupted; {kept:,} of {rows:,} pictures are done and kept, the same command goes "
            "on with the rest"
        )


class Extraction:
    """One extraction that may have to encode.

    Attributes:
        encoded: pictures that went through the encoder and have a vector.
        copied: pictures whose vectors another store had.
        notices: one line each, for the user.
    """

    def __init__(self, plan: Plan, home: Home, encoder: Encoder, progress: Progress) -> None:
        self._plan = plan
        self._home = home
        self._encoder = encoder
        self._progress = progress
        self._finished = 0
        self._failed: dict[str, list[str]] = {}
        self.encoded = 0
        self.copied = 0
        self.notices: list[str] = []

    def run(self) -> Note:
        """Fill what is missing and say where all of it lies."""
        text = self._texts()
        parts = keep_parts(self._plan, self._home, self._encoder, self._info())
        stores: list[Store] = []
        splits = self._plan.dataset.splits
        paths = [path for split in splits for path in self._paths(split).values()]
        drop_unused_plans(paths)
        with ExitStack() as stack:
            # All stores are begun at once: whoever goes on with them finds one plan for them all.
            begun = {split: self._writers(split, stack) for split in splits}
            at_once = stack.enter_context(batches_at_once(self._encoder.device))
            works = {split: self._work(split, begun[split], at_once) for split in splits}
            renewed = sum(own.renewed for writers in begun.values() for own in writers.values())
            if renewed:
                self.notices.append(
                    f"{renewed} records of finished shards were damaged and are made anew"
                )
            for split, work in works.items():
                self._notice_other_files(split, begun[split].values())
                work.retry(every=self._plan.request.retry_failed)
                self._failed[split] = self._named(split, work.failures())
            try:
                for split, work in works.items():
                    self._encode(split, works)
                    stores += [writer.finish() for writer in begun[split].values()]
                    self.encoded += work.encoded
                    self.copied += work.copied
            except KeyboardInterrupt:
                missing = sum(spec.rows for work in works.values() for spec in work.missing)
                raise Stopped(self._plan.rows - missing, self._plan.rows) from None
        for path, header in [(text.path, text.header), *((p.path, p.header) for p in parts)]:
            update_header(path, header, self._info())
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
            failed=sum(store.failed for store in stores if store.layer == "image"),
            truncated=text.header.info.get("truncated", 0),
        )

    def _place(self, path: Path) -> str:
        return path.relative_to(self._home.root).as_posix()

    def _texts(self) -> TextStore:
        prompts = self._plan.prompts
        key = text_key(
            encoder=self._encoder.identity,
            compute=self._encoder.compute,
            prompts=prompts.prompts,
            classnames=prompts.classnames,
            template=prompts.template,
        )
        path = self._home.text_path(self._plan.dataset.id, key_digest(key))
        try:
            return TextStore.open(path, self._home.option)
        except RefusedError:
            raise  # it may be well
        except StoreError:
            pass  # not there, or not whole: it is written anew
        width = max(map(len, prompts.prompts))
        texts = [text for row in prompts.prompts for text in row]
        parts, truncated = [], 0
        for first in range(0, len(texts), TEXTS_AT_ONCE):
            features, cut = self._encoder.encode_texts(texts[first : first + TEXTS_AT_ONCE])
            parts.append(features)
            truncated += cut
            self._progress("texts", first + len(features), len(texts))
        features = np.concatenate(parts)
        per_prompt = np.zeros((len(prompts.classnames), width, features.shape[1]), np.float32)
        there = [k < len(row) for row in prompts.prompts for k in range(width)]
        per_prompt.reshape(-1, features.shape[1])[there] = features  # [C, T, D]
        return write_text_store(
            path,
            key,
            per_prompt=per_prompt,
            classnames=prompts.classnames,
            prompts=prompts.prompts,
            info={**self._info(), "truncated": truncated},
            home=self._home.option,
        )

    def _paths(self, split: str) -> dict[str, Path]:
        """The folder of each layer's store."""
        keys = {layer: self._key(split, layer) for layer in self._encoder.layers}
        return {
            layer: self._home.store_path(self._plan.dataset.id, split, layer, key_digest(key))
            for layer, key in keys.items()
        }

    def _writers(self, split: str, stack: ExitStack) -> dict[str, ImageStoreWriter]:
        """The writers of one split, one a layer, with the same shards and batch."""
        samples = self._plan.dataset.splits[split]
        paths = self._paths(split)
        rows_per_shard, batch = self._shape(split, paths)
        return {
            layer: stack.enter_context(
                ImageStoreWriter(
                    path,
                    self._key(split, layer),
                    ids=samples.ids,
                    files=samples.stamps,
                    rows_per_shard=rows_per_shard,
                    encode_batch=batch,
                    info={**self._info(), "sizes": self._plan.sizes.get(split)},
                    home=self._home.option,
                )
            )
            for layer, path in paths.items()
        }

    def _shape(self, split: str, paths: Mapping[str, Path]) -> tuple[int, int]:
        """Rows a shard and pictures a batch: those of the plan that one of the stores has."""
        for layer, path in paths.items():
            try:
                begun = read_plan(path, self._key(split, layer), self._command())
            except FileNotFoundError:
                continue
            return begun.rows_per_shard, begun.encode_batch
        request, rows = self._plan.request, len(self._plan.dataset.splits[split].ids)
        usual = CPU_BATCH if self._encoder.device == "cpu" else GPU_BATCH
        rows_per_shard = request.rows_per_shard or usual_rows_per_shard(rows)
        return rows_per_shard, min(request.batch_size or usual, rows)

    def _work(
        self, split: str, writers: Mapping[str, ImageStoreWriter], at_once: int
    ) -> SplitEncoder:
        samples = self._plan.dataset.splits[split]
        keys = {layer: writer.key for layer, writer in writers.items()}
        missing = any(writer.missing for writer in writers.values())
        return SplitEncoder(
            self._plan.dataset,
            split,
            self._plan.reading,
            self._encoder,
            writers,
            Reusable(self._home, keys, samples.ids, samples.stamps if missing else None),
            at_once,
            self._advance,
        )

    def _encode(self, split: str, works: Mapping[str, SplitEncoder]) -> None:
        """Encode a split; refuse to go on as soon as too many pictures failed."""
        work = works[split]
        rows = len(self._plan.dataset.splits[split].ids)
        self._advance(rows - sum(spec.rows for spec in work.missing))
        self._refuse_too_many(works)
        for failures in work.shards():
            self._failed[split] += self._named(split, failures)
            self._refuse_too_many(works)
        # The store knows more of them: vectors that its type cannot hold.
        self._failed[split] = self._named(split, work.failures())
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

    def _named(self, split: str, failures: Sequence[Failure]) -> list[str]:
        return list(named(failures, self._plan.dataset.splits[split].ids))

    def _refuse_too_many(self, works: Mapping[str, SplitEncoder]) -> None:
        plan = self._plan
        failed = [line for lines in self._failed.values() for line in lines]
        if len(failed) <= plan.allowed:
            return
        unread = sum(spec.rows for work in works.values() for spec in work.missing)
        whole = unread <= ROWS_PER_SHARD  # few enough to see all the bad ones at once
        if whole:
            for split, work in works.items():
                failed += self._named(split, work.unread())
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

    def _key(self, split: str, layer: str) -> Key:
        samples = self._plan.dataset.splits[split]
        return image_key(
            layer=layer,
            **self._common(),
            dataset=self._plan.dataset.id,
            split=split,
            ids=samples.ids,
            files_sha256=files_of(samples),
        )

    def _common(self) -> dict[str, Any]:
        return {
            "encoder": self._encoder.identity,
            "preprocess": {**self._encoder.preprocess, **self._plan.reading.preprocess()},
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
        self._progress("pictures", self._finished, self._plan.rows)
