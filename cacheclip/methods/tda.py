"""TDA: two caches of the stream itself, of the pictures that zero-shot is sure and unsure of."""

from collections.abc import Iterable
from itertools import islice
from math import log2

import torch
from torch import Tensor

from cacheclip.heads.classes import class_votes
from cacheclip.heads.cosine import cosine_logits
from cacheclip.heads.stream_cache import Passage, through
from cacheclip.methods.base import ClosedForm, Online, Params, Reads, Setting
from cacheclip.task import Query, Task

UNSURE = 0.2, 0.5  # of the entropy in nats over log2 C, both ends excluded
LIKELY = 0.03, 1.0  # probabilities of what an unsure picture is held to be, both ends excluded
BETA = {"sure": "beta", "unsure": "beta_unsure"}
AT_ONCE = 64  # pictures that go through the caches together


class Tda(Online, ClosedForm):
    """Zero-shot + alpha A(x K+) Y+ - alpha' A'(x K-) M-, A(u) = exp(-beta (1 - u)) (2403.18293).

    A picture enters, then it is answered for. Each class keeps the `kept` pictures of least entropy
    among those that zero-shot gives it (K+, one-hot Y+), and `kept_unsure` among those whose
    entropy is neither small nor large (K-); M- marks the classes to which zero-shot gives more than
    0.03 there. Entropy is in nats and its divisor in bits, as released, so the share ends at 0.69.
    One view a picture: the 64 of the release are for other test sets. Constants are its own for
    ImageNet; alpha counts in logits and is not rescaled. Each other set has its own alpha and beta
    there, and nothing says on what they were chosen.
    """

    paper = "2403.18293"
    learns = "nothing"
    reads = Reads(text=("norm-mean",))
    table = {
        "alpha": Setting(2.0, 0.0, 1e6, elsewhere="alpha; positive alpha"),
        "beta": Setting(5.0, 0.0, 1e6, elsewhere="beta; positive beta"),
        "alpha_unsure": Setting(0.117, 0.0, 1e6, elsewhere="; negative alpha"),
        "beta_unsure": Setting(1.0, 0.0, 1e6, elsewhere="; negative beta"),
        "kept": Setting(3, 1, 1000, shape=True, elsewhere="k; positive shot_capacity"),
        "kept_unsure": Setting(2, 1, 1000, shape=True, elsewhere="k; negative shot_capacity"),
    }
    off = {"alpha": 0.0, "alpha_unsure": 0.0}

    def solve(self, task: Task) -> Params:
        """Empty caches: their places have the entropy C, which is more than any picture's ln C."""
        text = task.class_text("norm-mean")
        V, C, D = text.shape
        scale = text.new_full((V,), task.logit_scale)
        state = {"weight": text, "logit_scale": scale, **task.settings}
        for cache, size in (("sure", "kept"), ("unsure", "kept_unsure")):
            P = int(self.settings[size])
            state[cache] = text.new_zeros(V, C * P, D)
            state[f"{cache}_entropy"] = text.new_full((V, C, P), C)
        state["likely"] = text.new_zeros(V, C * P, C)
        return state

    def see(self, state: Params, query: Query) -> Tensor:
        """[V, 1, C]."""
        return _seen(state, query["image"].expand(len(state["weight"]), 1, -1))

    def stream(self, params: Params, pictures: Iterable[Query]) -> Tensor:
        """[V, n, C], as one picture after the other, some at once."""
        state = dict(params)
        images = (one["image"].expand(len(state["weight"]), 1, -1) for one in pictures)
        parts = iter(lambda: list(islice(images, AT_ONCE)), [])
        return torch.cat([_seen(state, torch.cat(part, 1)) for part in parts], 1)


def _seen(state: Params, x: Tensor) -> Tensor:
    """Logits [V, B, C] of the stream's next pictures [V, B, D], which go into the state."""
    zero_shot = cosine_logits(Query({"image": x}), state["weight"], state["logit_scale"])
    p = zero_shot.softmax(-1)
    entropy = -(p * zero_shot.log_softmax(-1)).sum(-1)  # [V, B]
    C = zero_shot.shape[-1]
    own, share = zero_shot.argmax(-1), entropy / log2(C)
    unsure = (share > UNSURE[0]) & (share < UNSURE[1])
    likely = ((p > LIKELY[0]) & (p < LIKELY[1])).to(p)  # [V, B, C]
    sure, near = _pass(state, "sure", x, own, entropy)
    votes = class_votes(near, sure.classes, C)
    doubted, near = _pass(state, "unsure", x, own, entropy.masked_fill(~unsure, C))
    held = torch.cat([state["likely"], likely], 1)  # [V, K, C]
    state["likely"] = doubted.kept(held)
    alpha, alpha_unsure = (state[name][:, None, None] for name in ("alpha", "alpha_unsure"))
    return zero_shot + alpha * votes - alpha_unsure * (near @ held)


def _pass(
    state: Params, cache: str, x: Tensor, own: Tensor, entropy: Tensor
) -> tuple[Passage, Tensor]:
    """Pictures through a cache, and exp(-beta (1 - x k)) [V, B, K] of what it holds for each."""
    held, beta = state[f"{cache}_entropy"], state[BETA[cache]][:, None, None]
    passage = through(held, own, entropy)
    keys = torch.cat([state[cache], x], 1)  # [V, K, D]
    near = torch.exp(-beta * (1 - x @ keys.mT)) * passage.there
    values = torch.cat([held.flatten(1), entropy], 1)
    state[cache] = passage.kept(keys)
    state[f"{cache}_entropy"] = passage.kept(values).view(held.shape)
    return passage, near
