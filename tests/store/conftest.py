"""Small stores of every kind, made through the public interface."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from cacheclip.store.home import Home, Labels, SplitLabels
from cacheclip.store.key import (
    files_sha256,
    image_key,
    key_digest,
    samples_sha256,
    set_digest_of,
    text_key,
)
from cacheclip.store.reader import Store
from cacheclip.store.schema import Failure
from cacheclip.store.text import TextStore, write_text_store
from cacheclip.store.writer import ImageStoreWriter

ENCODER = {
    "library": "open_clip",
    "name": "nano",
    "pretrained": "v1",
    "weights_sha256": "ab" * 32,
    "quickgelu": False,
    "embed_dim": 24,
    "logit_scale": 14.2857,
    "logit_bias": None,
}
PREPROCESS = {"size": [32, 32], "mean": (0.5, 0.5, 0.5), "interpolation": "bicubic"}
CLASSNAMES = ("cat", "dog", "wren")
CLIP = {"name": "ViT-B-32-quickgelu", "pretrained": "openai", "quickgelu": True}


@dataclass(frozen=True)
class Recipe:
    """All that an image store is made of; the features follow from it."""

    dataset: str = "folder/pets"
    split: str = "train"
    layer: str = "image"
    rows: int = 50
    dim: int = 24
    rows_per_shard: int = 16
    encode_batch: int = 8
    store_dtype: str = "float16"
    encoder: dict[str, Any] = field(default_factory=lambda: dict(ENCODER))
    compute: str = "float32"
    seed: int = 7
    root: str | None = "/data/pets"
    asked: dict[str, Any] = field(default_factory=dict)
    failed: tuple[int, ...] = (3, 40)
    created: str = "2026-01-01T00:00:00+00:00"

    @property
    def ids(self) -> list[str]:
        return [f"{self.split}/{CLASSNAMES[k % 3]}/{k:03}é.png" for k in range(self.rows)]

    @property
    def stamps(self) -> list[str]:
        return [f"{1000 + k}:{17 * k}" for k in range(self.rows)]

    @property
    def key(self) -> dict[str, Any]:
        return image_key(
            layer=self.layer,
            encoder=self.encoder,
            preprocess=PREPROCESS,
            compute={"dtype": self.compute},
            store_dtype=self.store_dtype,
            dataset=self.dataset,
            split=self.split,
            ids=self.ids,
            files_sha256=files_sha256(self.ids, self.stamps),
        )

    @property
    def features(self) -> NDArray[np.float32]:
        generator = np.random.default_rng(self.seed)
        return generator.standard_normal((self.rows, self.dim), np.float32) * 3

    @property
    def failures(self) -> list[Failure]:
        return [Failure(row, "decode", f"broken after {row} bytes") for row in self.failed]

    def writer(self, path: Path) -> ImageStoreWriter:
        return ImageStoreWriter(
            path,
            self.key,
            ids=self.ids,
            files=self.stamps,
            rows_per_shard=self.rows_per_shard,
            encode_batch=self.encode_batch,
            info={
                "created": self.created,
                "root": self.root,
                "asked": self.asked,
                "device": "cpu",
            },
        )

    def fill(self, writer: ImageStoreWriter, shards: int | None = None) -> None:
        """Write the first `shards` missing shards, or all."""
        for spec in writer.missing[:shards]:
            rows = slice(spec.first, spec.first + spec.rows)
            failures = [f for f in self.failures if rows.start <= f.row < rows.stop]
            writer.write(spec, self.features[rows], failures)

    def write(self, path: Path, shards: int | None = None) -> Store | None:
        """Write the store, or begin it."""
        with self.writer(path) as writer:
            self.fill(writer, shards)
            return None if writer.missing else writer.finish()

    def path(self, home: Home) -> Path:
        return home.store_path(self.dataset, self.split, self.layer, key_digest(self.key))


Prompts = Sequence[Sequence[str]]


class Builder:
    """Puts whole feature sets into a home."""

    def __init__(self, home: Home) -> None:
        self.home = home

    def store(self, recipe: Recipe) -> Store:
        store = recipe.write(recipe.path(self.home))
        assert store is not None
        return store

    def text(self, recipe: Recipe, template: str = "a photo of a {}.") -> TextStore:
        prompts = [[template.format(name), f"{name}!"] for name in CLASSNAMES]
        key = text_key(
            encoder=recipe.encoder,
            compute={"dtype": recipe.compute},
            prompts=prompts,
            classnames=CLASSNAMES,
            template=template,
        )
        features = np.random.default_rng(1).standard_normal((3, 2, recipe.dim), np.float32)
        return write_text_store(
            self.home.text_path(recipe.dataset, key_digest(key)),
            key,
            per_prompt=features,
            classnames=CLASSNAMES,
            prompts=prompts,
            info={"dataset": recipe.dataset, "root": recipe.root},
        )

    def labels(self, *recipes: Recipe) -> Labels:
        labels = Labels(
            recipes[0].dataset,
            list(CLASSNAMES),
            {
                r.split: SplitLabels(
                    samples_sha256(r.ids),
                    files_sha256(r.ids, r.stamps),
                    [k % 3 for k in range(r.rows)],
                )
                for r in recipes
            },
        )
        self.home.write_labels(labels)
        return labels

    def record(self, recipe: Recipe, text: TextStore | None) -> str:
        digest = set_digest_of(recipe.key)
        self.home.record_extraction(
            dataset=recipe.dataset,
            model=recipe.encoder["name"],
            pretrained=recipe.encoder["pretrained"],
            set_digest=digest,
            text_digest=None if text is None else text.digest,
            root=None if recipe.root is None else Path(recipe.root),
        )
        return digest

    def extract(self, template: str = "a photo of a {}.", **fields: Any) -> str:
        """All that `extract` leaves behind; returns the digest of the set."""
        train = Recipe(**fields)
        test = Recipe(**{**fields, "split": "test", "rows": 20, "failed": ()})
        for recipe in (train, test):
            self.store(recipe)
        self.labels(train, test)
        return self.record(train, self.text(train, template))


@pytest.fixture
def recipe() -> type[Recipe]:
    return Recipe


@pytest.fixture
def clip() -> dict[str, Any]:
    """Another encoder."""
    return ENCODER | CLIP


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """A store of four shards, two rows failed."""
    made = Recipe().write(tmp_path / "store")
    assert made is not None
    return made


@pytest.fixture
def build(tmp_path: Path) -> Builder:
    return Builder(Home(tmp_path / "home"))


@pytest.fixture
def home(build: Builder) -> Home:
    return build.home


@pytest.fixture
def flip() -> Callable[[Path, int], None]:
    def flip(path: Path, bit: int) -> None:
        data = bytearray(path.read_bytes())
        data[bit // 8] ^= 1 << bit % 8
        path.write_bytes(data)

    return flip
