"""Distils the sentence encoder into the text tower.

Writes `text.pt`, the tower's state, into the work folder, and logs the loss.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from recipes.nano.model import TEMPLATES, build_model, text_features, tokenizer, unit
from recipes.nano.schedule import Log, set_rate

SEED = 1
STEPS, BATCH, RATE, WARM_UP = 1500, 768, 2e-3, 50
TEMPERATURE = 0.07
# A batch is cut into this many parts by length, so that little padding is computed.
PARTS = 12
N_HELD_OUT = 1000


def loss(student: Tensor, teacher: Tensor) -> Tensor:
    """Gives 3 (1 - cosine) plus the divergence of the similarities within the batch.

    Args:
        student: [n, d] unit rows.
        teacher: [n, d] unit rows.
    """
    wanted = functional.log_softmax(teacher @ teacher.T / TEMPERATURE, dim=1)
    given = functional.log_softmax(student @ teacher.T / TEMPERATURE, dim=1)
    apart = functional.kl_div(given, wanted, reduction="batchmean", log_target=True)
    return 3 * (1 - (student * teacher).sum(dim=1)).mean() + apart


def encode(net: nn.Module, tokens: Tensor) -> Tensor:
    """Gives unit text features, computed in parts of like length."""
    order = tokens.argmax(dim=1).argsort()
    parts = [unit(text_features(net, tokens[part])) for part in order.tensor_split(PARTS)]
    return torch.cat(parts)[order.argsort()]


def main() -> None:
    """Distils and saves."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, required=True)
    work = parser.parse_args().work
    torch.manual_seed(SEED)
    rng = np.random.default_rng(SEED)
    rows = json.loads((work / "texts.json").read_text())
    targets = torch.from_numpy(np.load(work / "targets.npy"))
    weights = np.array([weight for _, weight, _ in rows])
    unseen = rng.choice(
        [i for i, (text, weight, _) in enumerate(rows) if weight == 1], N_HELD_OUT, replace=False
    )
    weights[unseen] = 0
    tokenize = tokenizer(work / "bpe_4096.txt.gz")
    plain = tokenize([text for text, _, _ in rows])
    net = build_model().text.train()
    optimizer = torch.optim.AdamW(net.parameters(), lr=RATE, weight_decay=0.02, betas=(0.9, 0.98))
    log = Log(work / "distil.json")
    for step in range(STEPS):
        set_rate(optimizer, step, STEPS, WARM_UP)
        chosen = rng.choice(len(rows), BATCH, p=weights / weights.sum())
        tokens = plain[chosen]
        framed = [k for k, i in enumerate(chosen) if rows[i][2] and rng.random() < 0.5]
        texts = [TEMPLATES[rng.integers(5)].format(rows[chosen[k]][0]) for k in framed]
        tokens[framed] = tokenize(texts)
        value = loss(encode(net, tokens), targets[chosen])
        optimizer.zero_grad()
        value.backward()
        nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimizer.step()
        log.add(step, loss=value.item())
    net.eval()
    with torch.no_grad():
        nearest = (encode(net, plain[unseen]) @ targets[unseen].T).argmax(dim=1)
    right = (nearest == torch.arange(N_HELD_OUT)).float().mean().item()
    log.close(unseen_nouns_right=round(right, 3))
    torch.save(net.state_dict(), work / "text.pt")


if __name__ == "__main__":
    main()
