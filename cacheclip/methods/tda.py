"""TDA: two caches of the stream itself, of the pictures that zero-shot is sure and unsure of."""

from math import log2

import torch
from torch import Tensor

from cacheclip.heads.cosine import cosine_logits
from cacheclip.methods.base import ClosedForm, Online, Params, Reads, Setting
from cacheclip.task import Query, Task

UNSURE = 0.2, 0.5  # of the entropy in nats over log2 C, both ends excluded
LIKELY = 0.03, 1.0  # probabilities of what an unsure picture is held to be, both ends excluded


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
        "alpha": Setting(2.0, 0.0, 1e6),
        "beta": Setting(5.0, 0.0, 1e6),
        "alpha_unsure": Setting(0.117, 0.0, 1e6),
        "beta_unsure": Setting(1.0, 0.0, 1e6),
        "kept": Setting(3, 1, 1000, shape=True),
        "kept_unsure": Setting(2, 1, 1000, shape=True),
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
            state[cache] = text.new_zeros(V, C, P, D)
            state[f"{cache}_entropy"] = text.new_full((V, C, P), C)
        state["likely"] = text.new_zeros(V, C, P, C)
        return state

    def see(self, state: Params, query: Query) -> Tensor:
        """[V, 1, C]."""
        zero_shot = cosine_logits(query, state["weight"], state["logit_scale"])[:, 0]  # [V, C]
        V, C = zero_shot.shape
        x = query["image"].expand(V, 1, -1)[:, 0]  # [V, D]
        p = zero_shot.softmax(-1)
        entropy = -(p * zero_shot.log_softmax(-1)).sum(-1)  # [V]
        own, share = zero_shot.argmax(-1), entropy / log2(C)
        likely = ((p > LIKELY[0]) & (p < LIKELY[1])).to(p)
        unsure = (share > UNSURE[0]) & (share < UNSURE[1])  # [V]
        _enter(state, "sure", own, entropy, torch.ones_like(unsure), sure=x)
        _enter(state, "unsure", own, entropy, unsure, unsure=x, likely=likely)
        votes = _affinity(state, "sure", x, state["beta"]).sum(-1)  # [V, C]
        doubts = _affinity(state, "unsure", x, state["beta_unsure"])  # [V, C, P]
        against = torch.einsum("vcp,vcpk->vk", doubts, state["likely"])
        gain = state["alpha"][:, None] * votes - state["alpha_unsure"][:, None] * against
        return (zero_shot + gain)[:, None]


def _enter(
    state: Params, cache: str, own: Tensor, entropy: Tensor, may: Tensor, **parts: Tensor
) -> None:
    """Pictures [V] replace, in their class, those of the largest entropy if theirs is less."""
    held, variant = state[f"{cache}_entropy"], torch.arange(len(own), device=own.device)
    place = held[variant, own].argmax(-1)
    may = may & (entropy < held[variant, own, place])
    there = variant[may], own[may], place[may]
    held[there] = entropy[may]
    for name, value in parts.items():
        state[name][there] = value[may]


def _affinity(state: Params, cache: str, x: Tensor, beta: Tensor) -> Tensor:
    """exp(-beta (1 - x k)) for each place [V, C, P], 0 for an empty one."""
    near = torch.einsum("vcpd,vd->vcp", state[cache], x)
    there = state[f"{cache}_entropy"] < state[cache].shape[1]
    return torch.exp(-beta[:, None, None] * (1 - near)) * there
