"""APE: a cache that votes in the channels which tell classes apart, by what zero-shot misses."""

import torch
from torch import Tensor

from cacheclip.heads.cache import Cache, cache_logits, zero_shot_of
from cacheclip.heads.cache_search import RANGES, tune
from cacheclip.heads.channels import telling
from cacheclip.heads.classes import class_means
from cacheclip.methods.base import VIEWS, ClosedForm, Found, Params, Reads, Setting, from_zero
from cacheclip.task import Query, Task, unit

LEAST = 1e-6  # is added to probabilities before they are compared


class Ape(ClosedForm):
    """Logits s x T^T + alpha exp(-beta (1 - x' K'^T)) diag(r) Y (2304.01195, equations 7 to 10).

    A prime marks what is cut to some channels and made unit again: those of the largest
    `variance` var_c(T_cd) - (1 - variance) S_d, where S_d is the mean product in channel d of two
    members of different classes, a class's text and keys. r = exp(gamma log2(1 / p)), p being what
    softmax(k' T'^T), without a scale, gives the key's own class. T is the unit mean of all prompts,
    templates and sentences alike. `channels` is a share of them, 500 of 1,024 on ImageNet, as is
    `variance`; alpha and beta are Tip-Adapter's, found in the same way by a selecting policy. The
    release tries 20 values of gamma by data set, here five. Classes weigh the same in S however
    many shots they have. Keys are made of `views` as Tip-Adapter's.
    """

    paper = "2304.01195"
    reads = Reads(support=("image", "image-norm"), text=("all:norm-mean",))
    table = {
        "alpha": from_zero(1.0, RANGES["alpha"], "alpha; init_alpha"),
        "beta": from_zero(5.5, RANGES["beta"], "beta; init_beta"),
        "gamma": Setting(
            0.1,
            0.0,
            10.0,
            grid=(0.0, 0.1, 0.3, 0.6, 1.0),
            zero_shot="low",
            elsewhere="gamma; init_gamma",
        ),
        "channels": Setting(
            500 / 1024, 1e-6, 1.0, shape=True, elsewhere="Q; training_free_feat_num, of 1,024"
        ),
        "variance": Setting(0.3, 0.0, 1.0, elsewhere="1 - lambda; w_training_free[1]"),
        **VIEWS,
    }
    off = {"alpha": 0.0}

    def solve(self, task: Task) -> Params:
        """The cache in its channels, and how much each key counts."""
        text, keys = task.class_text("all:norm-mean"), task.mean_of_views()
        means, share = _means(text, keys, task.labels), float(self.settings["channels"])
        channels = telling(text, means, task.settings["variance"], share)  # [V, Q]
        cut = _cut(keys, channels)
        p = (cut @ _cut(text, channels).mT).softmax(-1)  # [V, N, C]
        own = p.gather(-1, task.labels.unsqueeze(-1)).squeeze(-1)
        missed = ((1 + LEAST) / (own + LEAST)).log2()
        return {
            "weight": text,
            "logit_scale": text.new_full((len(text),), task.logit_scale),
            "keys": cut,
            "labels": task.labels,
            "values": (task.settings["gamma"][:, None] * missed).exp(),
            "channels": channels,
            "alpha": task.settings["alpha"],
            "beta": task.settings["beta"],
        }

    def logits(self, params: Params, query: Query) -> Tensor:
        """[V, n, C]."""
        x, zero_shot = _cut(query["image"], params["channels"]), zero_shot_of(params, query)
        return cache_logits(x, Cache.of(params), zero_shot, params["alpha"], params["beta"])

    def search(self, params: Params, query: Query, labels: Tensor, folds: int = 1) -> Found | None:
        """Whichever of alpha and beta is to be searched."""
        if not self.searched:
            return None
        x, zero_shot = _cut(query["image"], params["channels"]), zero_shot_of(params, query)
        constants = params["alpha"], params["beta"]
        cache = Cache.of(params)
        return Found(*tune(x, cache, zero_shot, labels, *constants, self.searched, folds))


def _means(text: Tensor, keys: Tensor, labels: Tensor) -> Tensor:
    """The mean of each class's text and keys, [V, C, D]."""
    V, C, _ = text.shape
    of_text = torch.arange(C, device=labels.device).expand(V, C)
    return class_means(torch.cat([text, keys], 1), torch.cat([of_text, labels], 1), C)


def _cut(x: Tensor, channels: Tensor) -> Tensor:
    """Unit rows [V, n, Q] of rows [n, D] or [V, n, D] in each variant's channels [V, Q]."""
    rows = x.expand(len(channels), *x.shape[-2:])
    return unit(rows.gather(-1, channels[:, None].expand(-1, rows.shape[1], -1)))
