"""Filling the stores of one extraction: texts first, then the pictures split by split."""

from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from cacheclip.datasets.base import Split
from cacheclip.disk import read_json
from cacheclip.encoders.base import Encoder
from cacheclip.errors import InputError, StoreError
from cacheclip.extract import memo
from cacheclip.extract.memo import Note
from cacheclip.extract.plan import Plan, Progress
from cacheclip.extract.reuse import Reusable
from cacheclip.extract.shard import SplitEncoder, drop_unused_plans, finished_part, withdraw_failed
from cacheclip.extract.threads import batches_at_once
from cacheclip.store.home import Home
from cacheclip.store.key import Key, files_sha256, image_key, key_digest, set_digest, text_key
from cacheclip.store.reader import Store
from cacheclip.store.schema import NONFINITE, PLAN_FILE, named
from cacheclip.store.text import TextStore, write_text_store
from cacheclip.store.writer import ImageStoreWriter

STORE_DTYPE = "float16"
CPU_BATCH = 32
GPU_BATCH = 256
TEXTS_AT_ONCE = 256
FAILURES_SHOWN = 10


def files_of(split: Split) -> str | None:
    """What the files of a split are known by; None where the ids name the pictures for good."""
    return None if split.stamps is None else files_sha256(split.ids, split.stamps)


class Extraction:
    """One extraction that may have to encode."""

    def __init__(self, plan: Plan, home: Home, encoder: Encoder, progress: Progress) -> None:
        self._plan = plan
        self._home = home
        self._encoder = encoder
        self._progress = progress
        self._finished = 0
        self._failed: dict[str, list[str]] = {}
        self.encoded = 0
        self.copied = 0

    def run(self) -> Note:
        """Fill what is missing and say where all of it lies."""
        text = self._texts()
        stores: list[Store] = []
        splits = self._plan.dataset.splits
        paths = [path for split in splits for path in self._paths(split).values()]
        if self._plan.request.retry_failed:
            for path in paths:
                withdraw_failed(path)
        drop_unused_plans(paths)
        with ExitStack() as stack:
            # All stores are begun at once: whoever goes on with them finds one plan for them all.
            begun = {split: self._writers(split, stack) for split in splits}
            at_once = stack.enter_context(batches_at_once(self._encoder.device))
            for split, writers in begun.items():
                self._encode(split, writers, at_once)
                stores += [writer.finish() for writer in writers.values()]
        identity = self._encoder.identity
        places = [store.path.relative_to(self._home.root).as_posix() for store in stores]
        return Note(
            model=identity["name"],
            pretrained=identity["pretrained"],
            set_digest=set_digest(**self._common(), dataset=self._plan.dataset.id),
            weights=memo.stamp(self._encoder.weights_file),
            stores=places,
            text=text.path.relative_to(self._home.root).as_posix(),
            text_digest=text.digest,
            failed=sum(store.failed for store in stores if store.layer == "image"),
            truncated=text.header.info.get("truncated", 0),
        )

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
            return TextStore.open(path)
        except StoreError:
            pass  # not there, or not whole: it is written anew
        texts = [text for row in prompts.prompts for text in row]
        parts, truncated = [], 0
        for first in range(0, len(texts), TEXTS_AT_ONCE):
            features, cut = self._encoder.encode_texts(texts[first : first + TEXTS_AT_ONCE])
            parts.append(features)
            truncated += cut
            self._progress("texts", first + len(features), len(texts))
        per_prompt = np.concatenate(parts).reshape(
            len(prompts.classnames), len(prompts.templates), -1
        )  # [C, T, D]
        return write_text_store(
            path,
            key,
            per_prompt=per_prompt,
            classnames=prompts.classnames,
            prompts=prompts.prompts,
            info={**self._info(), "truncated": truncated},
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
        rows_per_shard, batch = self._shape(len(samples.ids), paths.values())
        return {
            layer: stack.enter_context(
                ImageStoreWriter(
                    path,
                    self._key(split, layer),
                    ids=samples.ids,
                    files=samples.stamps,
                    rows_per_shard=rows_per_shard,
                    encode_batch=batch,
                    info=self._info(),
                )
            )
            for layer, path in paths.items()
        }

    def _shape(self, rows: int, paths: Iterable[Path]) -> tuple[int, int]:
        """Rows a shard and pictures a batch: those of the plan that one of the stores has."""
        for path in paths:
            if (path / PLAN_FILE).exists():
                begun = read_json(path / PLAN_FILE)
                return begun["rows_per_shard"], begun["encode_batch"]
        request = self._plan.request
        usual = CPU_BATCH if self._encoder.device == "cpu" else GPU_BATCH
        return request.rows_per_shard, min(request.batch_size or usual, rows)

    def _encode(self, split: str, writers: Mapping[str, ImageStoreWriter], at_once: int) -> None:
        samples = self._plan.dataset.splits[split]
        missing = {spec for writer in writers.values() for spec in writer.missing}
        self._advance(len(samples.ids) - sum(spec.rows for spec in missing))
        self._count_failed(split, writers["image"])
        if not missing:
            return
        keys = {layer: writer.key for layer, writer in writers.items()}
        reusable = Reusable(self._home, keys, samples.ids, samples.stamps)
        work = SplitEncoder(
            self._plan.dataset,
            split,
            self._encoder,
            writers,
            reusable,
            at_once,
            self._advance,
        )
        for failures in work.shards():
            self._failed[split] += named(failures, samples.ids)
            self._refuse_too_many()
        self._count_failed(split, writers["image"])
        self.encoded += work.encoded
        self.copied += work.copied

    def _count_failed(self, split: str, writer: ImageStoreWriter) -> None:
        """Know every failure of the finished shards, those of earlier runs included."""
        ids = self._plan.dataset.splits[split].ids
        self._failed[split] = list(named(finished_part(writer).failures(), ids))
        self._refuse_too_many()

    def _refuse_too_many(self) -> None:
        plan = self._plan
        failed = [line for lines in self._failed.values() for line in lines]
        if len(failed) <= plan.allowed:
            return
        shown = "; ".join(failed[:FAILURES_SHOWN])
        nonfinite = any(f": {NONFINITE}: " in line for line in failed)
        raise InputError(
            f"{len(failed)} of {plan.rows} pictures failed so far, {plan.allowed} are allowed "
            "(finished shards are kept)",
            where=f"{plan.dataset.id}: {shown}",
            fix="compute in another precision: --precision bf16 or fp32"
            if nonfinite
            else "repair the pictures and run the same command with --retry-failed, or allow "
            "more of them: --max-failures 5%",
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
            "preprocess": self._encoder.preprocess,
            "compute": self._encoder.compute,
            "store_dtype": STORE_DTYPE,
        }

    def _info(self) -> dict[str, Any]:
        """What people may want to know of a store; no part of its key."""
        spec, root = self._plan.encoder, self._plan.dataset.root
        return {
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
            "versions": memo.versions(),
            "device": self._encoder.device,
            "dataset": self._plan.dataset.id,
            "root": None if root is None else str(root),
            "weights_file": str(self._encoder.weights_file),
            "asked": asdict(spec),
        }

    def _advance(self, pictures: int) -> None:
        self._finished += pictures
        self._progress("pictures", self._finished, self._plan.rows)
