"""What tests of several rooms need: a home, a tower, a command in this process."""

import contextlib
import io
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
from numpy.typing import NDArray

from cacheclip.encoders import open_clip_
from cacheclip.store.home import Home, Labels, SplitLabels
from cacheclip.store.key import (
    image_key,
    key_digest,
    samples_sha256,
    set_digest_of,
    text_key,
)
from cacheclip.store.schema import Failure
from cacheclip.store.text import write_text_store
from cacheclip.store.writer import ImageStoreWriter

# A row of the log that nothing is wrong with.
ROW: dict[str, Any] = {
    "dataset": "birds",
    "eval_dataset": "birds",
    "classes": "all",
    "model": "toy",
    "pretrained": "v1",
    "encoders": ["toy@v1"],
    "template": "photo",
    "method": "gda",
    "method_version": 1,
    "recipe": None,
    "hparams": {},
    "candidates": "c",
    "shots": 4,
    "seed": 1,
    "init_seed": None,
    "select": "fixed",
    "draw": "ranked",
    "draw_id": "d",
    "test_id": "t",
    "views": None,
    "keys": None,
    "n_classes": 3,
    "n_train": 12,
    "n_val": 0,
    "n_test": 100,
    "n_failed": 0,
    "top1_val": None,
    "top1_test": 0.5,
    "curve": None,
    "store_key": "s",
    "stores": {"train/image": "k"},
    "labels": "l",
    "protocol_version": 1,
    "seconds": 0.1,
    "stack_seconds": 0.3,
    "stack_size": 3,
    "device": "cpu",
    "precision": None,
    "version": "0",
    "time": "now",
}

CLASSES, DIM = 4, 16
PER_CLASS = {"train": 6, "val": 2, "test": 10}
ENCODER = {
    "library": "open_clip",
    "name": "toy",
    "pretrained": "v1",
    "weights_sha256": "0" * 64,
    "quickgelu": False,
    "embed_dim": DIM,
    "logit_scale": 50.0,
    "logit_bias": None,
}


def build_home(
    root: Path,
    name: str = "toys",
    val: int = 2,
    failed: int = 0,
    train: Sequence[int] = (PER_CLASS["train"],) * CLASSES,
) -> Home:
    """Features around one direction a class; the text is a noisy copy of the directions."""
    home = Home(root)
    random = np.random.default_rng(0)
    centres = random.normal(size=(CLASSES, DIM))
    compute, preprocess = {"dtype": "float32"}, {"size": [8, 8]}
    splits, last_key = {}, {}
    for split, count in (PER_CLASS | {"val": val}).items():
        if not count:
            continue
        counts = train if split == "train" else [count] * CLASSES
        labels = [c for c in range(CLASSES) for _ in range(counts[c])]
        ids = [f"{split}/{c}/{k}.png" for k, c in enumerate(labels)]
        x = (centres[labels] + 1.6 * random.normal(size=(len(ids), DIM))).astype(np.float32)
        key = image_key(
            layer="image",
            encoder=ENCODER,
            preprocess=preprocess,
            compute=compute,
            store_dtype="float16",
            dataset=name,
            split=split,
            ids=ids,
        )
        path = home.store_path(name, split, "image", key_digest(key))
        bad = [Failure(k, "decode", "broken") for k in range(failed)] if split == "test" else []
        with ImageStoreWriter(path, key, ids=ids, encode_batch=4, info={}) as writer:
            for shard in writer.missing:
                writer.write(shard, x[shard.first : shard.first + shard.rows], bad)
            writer.finish()
        splits[split] = SplitLabels(samples_sha256(ids), None, labels)
        last_key = key
    classnames = ["ant", "bee", "cow", "doe"]
    prompts = [[f"a {n}", f"one {n}"] for n in classnames]
    text = text_key(
        encoder=ENCODER, compute=compute, prompts=prompts, classnames=classnames, template="t"
    )
    noisy = centres[:, None] + 2.0 * random.normal(size=(CLASSES, 2, DIM))
    store = write_text_store(
        home.text_path(name, key_digest(text)),
        text,
        per_prompt=noisy.astype(np.float32),
        classnames=classnames,
        prompts=prompts,
        info={},
    )
    home.write_labels(Labels(name, classnames, splits))
    home.record_extraction(
        dataset=name,
        model="toy",
        pretrained="v1",
        set_digest=set_digest_of(last_key),
        text_digest=store.digest,
        root=None,
    )
    return home


def add_store(home: Home, split: str, layer: str, x: NDArray[np.float32], views: int = 0) -> None:
    """More of the pictures of a split: their parts [n, P, D], or views [n, W, D] of a layer."""
    plain = home.find().store(split)
    key = {**plain.key, "layer": layer, "views": {"n": views} if views else None}
    path = home.store_path(plain.key["data"]["id"], split, layer, key_digest(key))
    ids, rows = plain.ids(), x.reshape(len(x), -1)
    with ImageStoreWriter(path, key, ids=ids, encode_batch=4, info={}) as writer:
        for shard in writer.missing:
            writer.write(shard, rows[shard.first : shard.first + shard.rows], [])
        writer.finish()


def add_encoder(
    home: Home, name: str = "other", dim: int = 12, failed: Sequence[int] = (), seed: int = 7
) -> None:
    """Features of the last set's pictures by a second encoder; `failed` are rows of split test."""
    first, random = home.find(), np.random.default_rng(seed)
    centres = random.normal(size=(CLASSES, dim))
    model, _, tag = name.partition("@")
    encoder = {**first.encoder, "name": model, "embed_dim": dim, "weights_sha256": "1" * 64}
    encoder |= {"pretrained": tag} if tag else {}
    for split, own in first.labels.splits.items():
        key = {**first.store(split).key, "encoder": encoder}
        ids, path = (
            first.store(split).ids(),
            home.store_path(first.dataset, split, "image", key_digest(key)),
        )
        x = (centres[own.labels] + 0.7 * random.normal(size=(len(ids), dim))).astype(np.float32)
        bad = [Failure(row, "decode", "broken") for row in failed] if split == "test" else []
        with ImageStoreWriter(path, key, ids=ids, encode_batch=4, info={}) as writer:
            for shard in writer.missing:
                last = shard.first + shard.rows
                own_bad = [one for one in bad if shard.first <= one.row < last]
                writer.write(shard, x[shard.first : last], own_bad)
            writer.finish()


def save_tower(name: str, config: Mapping[str, Any], file: Path, seed: int) -> Any:
    """An open_clip model of random weights, which also go to a checkpoint file."""
    import open_clip
    import torch

    open_clip_.register(name, config)
    with open_clip_._quiet():
        model = open_clip.create_model(name).eval()
    generator = torch.Generator().manual_seed(seed)
    for parameter_name, parameter in model.named_parameters():
        if parameter.ndim > 1 or parameter_name.endswith("bias"):
            parameter.data.normal_(0, 0.1, generator=generator)
    torch.save(model.state_dict(), file)
    return model


@dataclass(frozen=True)
class Said:
    """What a command printed, and its exit code."""

    code: int
    out: str
    err: str


def cacheclip(*words: str | Path, stdin: str = "") -> Said:
    """Run a command in this process, with the exit code and three lines of the real `main`."""
    from cacheclip.cli.main import main

    out, err, code = io.StringIO(), io.StringIO(), 0
    with (
        mock.patch.object(sys, "argv", ["cacheclip", *map(str, words)]),
        mock.patch.object(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin.encode()))),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        try:
            main()
        except SystemExit as stop:
            code = int(stop.code or 0)
    return Said(code, out.getvalue(), err.getvalue())
