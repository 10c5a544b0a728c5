"""Suite `extract`: pictures to features, against the encoder alone on decoded pixels."""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from time import perf_counter
from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cacheclip.bench import store
from cacheclip.bench.harness import Case, Setup, Timed
from cacheclip.datasets.base import resolve
from cacheclip.encoders.base import NANO, EncoderSpec, load
from cacheclip.errors import FitError
from cacheclip.extraction.decode import picture_reader
from cacheclip.extraction.fill import CPU_BATCH, GPU_BATCH
from cacheclip.extraction.plan import ExtractRequest
from cacheclip.extraction.run import run
from cacheclip.extraction.threads import batches_at_once, in_order
from cacheclip.store.home import Home

DATASET = "clipart"
TOLERANCE = 2e-3  # of a stored vector: float16, and batches put together otherwise

Rows: TypeAlias = NDArray[np.float32]


def cases(setup: Setup) -> Iterator[Case]:
    """The pictures of the embedded data set through the embedded encoder."""
    device = setup.device.type
    batch = CPU_BATCH if device == "cpu" else GPU_BATCH
    encoder = load(EncoderSpec(NANO, device=device))
    data = resolve(DATASET, data_root=Path("data"))
    pixels: list[Tensor] = []
    for split, samples in data.splits.items():
        read = picture_reader(data, split, lambda picture, sample: encoder.transform(picture))
        decoded = (read(row) for row in range(len(samples.ids)))
        pixels += [item for item in decoded if isinstance(item, Tensor)]
    batches = torch.split(torch.stack(pixels), batch)
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)

        def ours() -> float:
            """Seconds before the first picture and after the last, which do not count."""
            shutil.rmtree(place / "home", ignore_errors=True)
            moments: list[float] = []
            start = perf_counter()

            def note(what: str, done: float, total: float) -> None:
                if what == "pictures":
                    moments.append(perf_counter())

            run(ExtractRequest(DATASET, NANO, device=device), Home(place / "home"), note)
            return perf_counter() - start - (moments[-1] - moments[0])

        def bare() -> Rows:
            with batches_at_once(device) as at_once:
                encoded = in_order(encoder.encode_images, batches, threads=at_once, ahead=at_once)
                return np.concatenate([layers["image"] for layers in encoded])

        def check() -> dict[str, float]:
            ours()
            features = Home(place / "home").find()
            stored = [features.store(s).load(normalize=False).features for s in data.splits]
            return {"off_at_most": _distance(np.concatenate(stored), bare())}

        ids = [f"{k}.png" for k in range(len(pixels))]
        width = int(encoder.identity["embed_dim"])
        rows = np.random.default_rng(0).standard_normal((len(ids), width), dtype=np.float32)
        key = store.key_of(ids)

        def writing() -> None:
            shutil.rmtree(place / "store", ignore_errors=True)
            store.write(place / "store", rows, ids, key)

        yield Case(
            name=f"{len(pixels)} {DATASET} pictures through {NANO}",
            unit="picture",
            ours=Timed(ours, len(pixels), gives_apart=True),
            baselines={
                "encoder on decoded pixels": Timed(bare, len(pixels)),
                "writing a store": Timed(writing, len(pixels)),
            },
            says={
                "data": DATASET,
                "batch_size": batch,
                "precision": encoder.compute["dtype"],
                "epochs": None,
                "optimizer": None,
                "starts_and_prompts": "left out",
            },
            job="picture",
            check=check,
            warm_up=False,  # the check is one
        )


def _distance(stored: Rows, encoded: Rows) -> float:
    """How far the stored vectors are off the encoder's, as a share of their length."""
    off = np.linalg.norm(stored - encoded, axis=1) / np.linalg.norm(encoded, axis=1)
    if not off.max() <= TOLERANCE:
        raise FitError(
            f"a stored vector is {off.max():.1e} off the encoder's",
            where=f"{DATASET}, {NANO}",
            fix="this is a bug; speed means nothing before it is found",
        )
    return float(off.max())
