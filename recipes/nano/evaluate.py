"""Prints what the shipped encoder reaches on the shipped data set `clipart`.

Loads the files through open_clip's own factory, without a network, and needs nothing else of the
recipe: `python recipes/nano/evaluate.py`. The few-shot figures are a check by independent code, not
the package's own protocol; settings are chosen on the validation pictures.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import tempfile
import zipfile
from pathlib import Path

import numpy as np
import open_clip
import torch
from PIL import Image
from sklearn.linear_model import LogisticRegression
from torch import Tensor
from torch.nn import functional

ASSETS = Path(__file__).parents[2] / "cacheclip/assets"
TEMPLATES = (
    "a picture of a {}.",
    "a drawing of a {}.",
    "clip art of a {}.",
    "an icon of a {}.",
    "a photo of a {}.",
    "{}",
)
MIXES = (0.0, 0.2, 0.4, 0.6, 0.8)
SHARPNESSES = (1.0, 2.0, 4.0, 8.0)
CACHE_WEIGHTS = (0.1, 0.3, 1.0, 3.0, 10.0)
STRENGTHS = (0.1, 1.0, 10.0, 100.0, 1000.0)


def load(folder: Path, weights: Path) -> tuple[open_clip.CustomTextCLIP, object, object]:
    """Gives model, preprocessing and tokenizer.

    Args:
        folder: Folder of the configuration and the vocabulary.
        weights: The weights' file.
    """
    config = json.loads((folder / "nano.json").read_text())
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "nano.json"
        path.write_text(json.dumps(config["model_cfg"]))
        open_clip.add_model_config(path)
    preprocess = {f"image_{name}": value for name, value in config["preprocess_cfg"].items()}
    model, _, transform = open_clip.create_model_and_transforms(
        "nano", pretrained=str(weights), **preprocess
    )
    tokenizer = open_clip.get_tokenizer("nano", bpe_path=str(folder / "bpe_4096.txt.gz"))
    return model.eval(), transform, tokenizer


def unit(x: Tensor) -> Tensor:
    """Gives the rows at unit length."""
    return functional.normalize(x, dim=-1)


@torch.no_grad()
def encode(model, transform, tokenizer, data: dict) -> tuple[Tensor, Tensor]:
    """Gives unit image features [n, d] and unit class texts [c, d]."""
    with zipfile.ZipFile(ASSETS / "clipart/images.zip") as archive:
        files = [io.BytesIO(archive.read(record["id"])) for record in data["images"]]
    pictures = [transform(Image.open(file)) for file in files]
    images = [unit(model.encode_image(part)) for part in torch.stack(pictures).split(64)]
    texts = [
        unit(model.encode_text(tokenizer([template.format(name) for template in TEMPLATES])))
        for name in data["classes"]
    ]
    return torch.cat(images), unit(torch.stack([text.mean(dim=0) for text in texts]))


def draw(data: dict, shots: int, seed: int) -> list[int]:
    """Gives the indices of the first `shots` training pictures a class by hash of seed and id."""
    rank = {
        i: hashlib.sha256(f"{seed}/{record['id']}".encode()).hexdigest()
        for i, record in enumerate(data["images"])
        if record["split"] == "train"
    }
    labels = [record["label"] for record in data["images"]]
    return [
        i
        for label in range(len(data["classes"]))
        for i in sorted((i for i in rank if labels[i] == label), key=rank.__getitem__)[:shots]
    ]


def accuracy(logits: Tensor, labels: Tensor) -> float:
    """Gives top-1 accuracy in percent."""
    return 100 * (logits.argmax(dim=1) == labels).float().mean().item()


def best(candidates: list[tuple[Tensor, Tensor]], val: Tensor, test: Tensor) -> float:
    """Gives test accuracy of the candidate that is first best on validation pictures."""
    scores = [accuracy(on_val, val) for on_val, _ in candidates]
    return accuracy(candidates[int(np.argmax(scores))][1], test)


def linear_probe(x: Tensor, y: Tensor, queries: tuple[Tensor, Tensor]) -> list:
    """Gives logits on both query sets for each regularisation."""
    found = []
    for strength in STRENGTHS:
        fitted = LogisticRegression(C=strength, max_iter=2000).fit(x.numpy(), y.numpy())
        found.append(tuple(torch.from_numpy(fitted.decision_function(q.numpy())) for q in queries))
    return found


def tip_adapter(x: Tensor, y: Tensor, queries: tuple, texts: Tensor, scale: float) -> list:
    """Gives logits of training-free Tip-Adapter for each setting."""
    values = functional.one_hot(y).float()
    return [
        tuple(
            scale * (q @ texts.T) + scale / 10 * weight * (-sharp * (1 - q @ x.T)).exp() @ values
            for q in queries
        )
        for weight in CACHE_WEIGHTS
        for sharp in SHARPNESSES
    ]


def clip_adapter(x: Tensor, y: Tensor, queries: tuple, texts: Tensor, scale: float) -> list:
    """Gives logits of CLIP-Adapter (image branch) for each mix."""
    found = []
    for mix in MIXES:
        torch.manual_seed(0)
        width = x.shape[1]
        net = torch.nn.Sequential(
            torch.nn.Linear(width, width // 4, bias=False),
            torch.nn.ReLU(),
            torch.nn.Linear(width // 4, width, bias=False),
            torch.nn.ReLU(),
        )

        def logits(q: Tensor, net: torch.nn.Module = net, mix: float = mix) -> Tensor:
            return scale * unit(mix * net(q) + (1 - mix) * q) @ texts.T

        optimizer = torch.optim.AdamW(net.parameters(), lr=1e-3)
        for _ in range(100 if mix else 0):
            for part in torch.randperm(len(x)).split(64):
                optimizer.zero_grad()
                functional.cross_entropy(logits(x[part]), y[part]).backward()
                optimizer.step()
        with torch.no_grad():
            found.append(tuple(logits(q) for q in queries))
    return found


def main() -> None:
    """Prints zero-shot and few-shot accuracies."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--weights", type=Path, default=ASSETS / "nano/nano-v1.safetensors")
    parser.add_argument("--seeds", type=int, default=5)
    arguments = parser.parse_args()
    data = json.loads((ASSETS / "clipart/clipart.json").read_text())
    model, transform, tokenizer = load(ASSETS / "nano", arguments.weights)
    images, texts = encode(model, transform, tokenizer, data)
    labels = torch.tensor([record["label"] for record in data["images"]])
    right = (images @ texts.T).argmax(dim=1) == labels
    print(f"zero-shot on all {len(labels)} pictures: {100 * right.float().mean():.1f} %")
    shares = [100 * right[labels == label].float().mean() for label in range(len(data["classes"]))]
    parts = [f"{name} {share:.0f}" for name, share in zip(data["classes"], shares, strict=True)]
    print("by class: " + ", ".join(parts))
    splits = np.array([record["split"] for record in data["images"]])
    val, test = (torch.from_numpy(np.flatnonzero(splits == name)) for name in ("val", "test"))
    queries = (images[val], images[test])
    print(f"zero-shot on the {len(test)} test pictures: {100 * right[test].float().mean():.1f} %")
    scale = model.logit_scale.exp().item()
    print(f"logit scale {scale:.1f}")
    for shots in (1, 2, 4, 8, 16):
        scores: dict[str, list[float]] = {}
        for seed in range(1, arguments.seeds + 1):
            chosen = draw(data, shots, seed)
            x, y = images[chosen], labels[chosen]
            for name, candidates in (
                ("linear probe", linear_probe(x, y, queries)),
                ("Tip-Adapter", tip_adapter(x, y, queries, texts, scale)),
                ("CLIP-Adapter", clip_adapter(x, y, queries, texts, scale)),
            ):
                scores.setdefault(name, []).append(best(candidates, labels[val], labels[test]))
        line = "; ".join(f"{n} {np.mean(v):.1f} +- {np.std(v):.1f}" for n, v in scores.items())
        print(f"{shots} shots, {arguments.seeds} seeds: {line}")


if __name__ == "__main__":
    main()
