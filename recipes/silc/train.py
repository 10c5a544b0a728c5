"""Trains two image towers alike, one with and one without local-to-global self-distillation.

Both start from the ImageNet trunk and from the projection that points its classifier's rows at the
texts of their names; both read nano's text tower, which stays as it is. Writes one folder each that
open_clip loads, and `NAME.json` with the losses, each the mean of 20 steps.
"""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path

import numpy as np
import torch
from open_clip import CustomTextCLIP
from open_clip.tokenizer import SimpleTokenizer
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn import functional

from recipes.nano.captions import Captions
from recipes.nano.judge import ensemble
from recipes.nano.model import EMBED_DIM, MODEL_CFG, PREPROCESS_CFG, build_model, tokenizer
from recipes.nano.records import load_records
from recipes.nano.schedule import Log, set_rate
from recipes.nano.train import MAX_LOG_SCALE, pair_loss, ridge_projection
from recipes.nano.wordnet import Nouns
from recipes.silc.config import Config, read_config
from recipes.silc.losses import distillation, moved, sigmoid_pairs, target
from recipes.silc.tower import Top, copied, follow

NANO = Path("cacheclip/assets/nano")
VOCABULARY = "bpe_4096.txt.gz"
START_SCALE = 14.3


class Data:
    """What was kept of the crops, and the texts of the pictures.

    Attributes:
        global_crops: [G, n, c, s, s] float16.
        local_crops: [L, n, c, t, t] float16.
        captions: The texts of each picture.
        texts: [texts, 256] unit features of the captions' table.
    """

    def __init__(self, work: Path, nouns: Nouns) -> None:
        """Opens what `crops` wrote."""
        self.global_crops = torch.from_numpy(np.load(work / "global.npy"))
        self.local_crops = torch.from_numpy(np.load(work / "local.npy"))
        self.captions = Captions(load_records(work / "train.json"), nouns)
        self.texts = torch.empty(0, EMBED_DIM)

    def encode(self, model: CustomTextCLIP, tokenize: SimpleTokenizer) -> None:
        """Takes the texts as the text tower has them: the templates' mean."""
        with torch.no_grad():
            self.texts = ensemble(model.text, tokenize, self.captions.table)

    def draw(self, pictures: np.ndarray, rng: np.random.Generator) -> Tensor:
        """Gives a text of each picture, [n, 256]."""
        return self.texts[self.captions.choose(pictures, rng)]


def start(tokenize: SimpleTokenizer, nouns: Nouns) -> CustomTextCLIP:
    """Gives the model that both trainings begin with."""
    model = build_model().eval()
    written = load_file(NANO / "nano-v1.safetensors")
    words = {k.removeprefix("text."): v for k, v in written.items() if k.startswith("text.")}
    model.text.load_state_dict(words)
    model.visual.head.proj.weight.data.copy_(ridge_projection(model, tokenize, nouns))
    model.logit_scale.data.fill_(np.log(START_SCALE))
    return model.requires_grad_(requires_grad=False)


def text_loss(pooled: Tensor, texts: Tensor, top: Top, log_scale: Tensor, config: Config) -> Tensor:
    """Gives the image-text loss, mean over the global crops ([G, n, 1280])."""
    scale = log_scale.clamp(max=MAX_LOG_SCALE).exp()
    views = [functional.normalize(top.projection(view), dim=-1) for view in pooled]
    if config.text_loss == "sigmoid":
        losses = [sigmoid_pairs(view, texts, scale, top.bias) for view in views]
    else:
        losses = [pair_loss(view, texts, scale) for view in views]
    return torch.stack(losses).mean()


def train(model: CustomTextCLIP, data: Data, config: Config, log: Log, *, distils: bool) -> None:
    """Trains the image tower.

    Args:
        model: Changed in place.
        data: Crops and texts.
        config: Settings.
        log: Takes the losses.
        distils: Whether the local crops teach: the one difference between the two encoders.
    """
    torch.manual_seed(config.seed)
    rng = np.random.default_rng(config.seed)
    top = Top(model, config).requires_grad_()
    teacher, centre = copied(top), torch.zeros(config.prototypes)
    log_scale = model.logit_scale.requires_grad_()
    groups = [
        {"params": top.trunk.parameters(), "lr": config.trunk_rate, "weight_decay": 0.02},
        {"params": top.projection.parameters(), "lr": config.projection_rate, "weight_decay": 0.05},
        {"params": [log_scale, top.bias], "lr": config.projection_rate, "weight_decay": 0.0},
    ]
    if distils:
        made = [*top.projector.parameters(), top.prototypes]
        groups.append({"params": made, "lr": config.projection_rate, "weight_decay": 0.05})
    optimizer = torch.optim.AdamW(groups, betas=(0.9, 0.98))
    n = len(data.captions.texts)
    steps = config.epochs * (n // config.batch)
    orders = [rng.permutation(n)[: n // config.batch * config.batch] for _ in range(config.epochs)]
    for step, chosen in enumerate(np.concatenate(orders).reshape(steps, config.batch)):
        set_rate(optimizer, step, steps, config.warm_up)
        seen = data.global_crops[:, chosen].float()  # [G, n, c, s, s]
        pooled = top.pooled(seen.flatten(0, 1)).unflatten(0, seen.shape[:2])
        said = text_loss(pooled, data.draw(chosen, rng), top, log_scale, config)
        loss, values = said, {"text": said.item()}
        if distils:
            with torch.no_grad():
                taught = teacher.outputs(teacher.pooled(seen.flatten(0, 1)))
                goal = target(taught, centre, config.teacher_temperature)
                goal = goal.unflatten(0, seen.shape[:2])
            part = data.local_crops[:, chosen].float()
            student = top.outputs(top.pooled(part.flatten(0, 1))).unflatten(0, part.shape[:2])
            own = distillation(student, goal, config.student_temperature)
            loss, values["distillation"] = said + own, own.item()
            centre = moved(centre, taught.mean(dim=0), config.centre_momentum)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if distils:
            follow(teacher, top, config.teacher_momentum)
        log.add(step, **values)
    model.logit_scale.data.clamp_(max=MAX_LOG_SCALE)


def export(model: CustomTextCLIP, folder: Path) -> None:
    """Writes a folder that open_clip loads as `local-dir:FOLDER`."""
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(NANO / VOCABULARY, folder / VOCABULARY)
    words = {"tokenizer_kwargs": {"bpe_path": str((folder / VOCABULARY).resolve())}}
    shape = MODEL_CFG | {"text_cfg": MODEL_CFG["text_cfg"] | words}
    config = {"model_cfg": shape, "preprocess_cfg": PREPROCESS_CFG}
    (folder / "open_clip_config.json").write_text(json.dumps(config, indent=2) + "\n")
    state = {name: value.contiguous() for name, value in model.state_dict().items()}
    save_file(state, folder / "open_clip_model.safetensors")


def main() -> None:
    """Trains and writes both encoders."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sources", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    arguments = parser.parse_args()
    config = read_config()
    nouns, tokenize = (
        Nouns(arguments.sources / "deb/usr/share/wordnet"),
        tokenizer(NANO / VOCABULARY),
    )
    data = Data(arguments.work, nouns)
    for name, distils in (("plain", False), ("silc", True)):
        model = start(tokenize, nouns)
        data.encode(model, tokenize)
        log = Log(arguments.work / f"{name}.json")
        train(model, data, config, log, distils=distils)
        log.close()
        export(model, arguments.work / name)


if __name__ == "__main__":
    main()
