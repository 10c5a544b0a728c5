"""APE-T: one residual in the telling channels moves a class's text and its keys alike."""

import torch
from torch import Tensor

from cacheclip.heads.cache import Cache, cache_logits, class_sums, zero_shot_of
from cacheclip.heads.cache_search import RANGES, tune
from cacheclip.heads.channels import telling
from cacheclip.heads.cosine import mean_cross_entropy
from cacheclip.heads.linear import residual
from cacheclip.kernels.weight_grad_update import Outer
from cacheclip.methods.base import VIEWS, Found, Params, Reads, Setting, Trained, from_zero, steps
from cacheclip.task import Batch, Generators, Query, Task


class ApeT(Trained):
    """Logits s x w_c + alpha sum_k in c v_k exp(-beta (1 - x (k + R_c))), w = T + R (2304.01195).

    R_c, from 0, lives in the channels that tell the class texts apart, by APE's criterion of the
    text alone, and is added to all keys of class c too; v_k, from 1, is how much a key counts. Sums
    are not normalised again. So it starts as Tip-Adapter; T is the unit mean of templates and
    sentences alike. Constants are the released ones for ImageNet: 500 of 1,024 channels, AdamW with
    lr 1e-4, eps 1e-3 and decay 0.1, 20 epochs in batches of 256, a cosine per step, alpha 2; beta,
    which nobody names, is Tip-Adapter's. A selecting policy searches both after the last step. The
    release has other numbers for each other set. `views` count as for Tip-Adapter-F.
    """

    paper = "2304.01195"
    reads = Reads(support=("image", "image-norm"), text=("all:norm-mean",))
    trainable = ("residual", "values")
    eps = 1e-3
    table = {
        "alpha": from_zero(2.0, RANGES["alpha"]),
        "beta": from_zero(5.5, RANGES["beta"]),
        "channels": Setting(500 / 1024, 1e-6, 1.0, shape=True),
        "variance": Setting(0.8, 0.0, 1.0),
        **steps(lr=1e-4, epochs=20, weight_decay=0.1),
        **VIEWS,
    }

    def init(self, task: Task, random: Generators) -> Params:
        """Tip-Adapter's cache, and nothing added."""
        text, keys = task.class_text("all:norm-mean"), task.mean_of_views()
        share = float(self.settings["channels"])
        channels = telling(text, text, task.settings["variance"], share)  # [V, Q]
        return {
            "weight": text,
            "logit_scale": text.new_full((len(text),), task.logit_scale),
            "keys": keys,
            "labels": task.labels,
            "values": keys.new_ones(keys.shape[:2]),
            "channels": channels,
            "residual": text.new_zeros(*text.shape[:2], channels.shape[-1]),  # [V, C, Q]
            "alpha": task.settings["alpha"],
            "beta": task.settings["beta"],
        }

    def head(self, params: Params, task: Task) -> Params:
        """Text and keys with the residual in them."""
        return _moved(params)

    def logits(self, params: Params, query: Query) -> Tensor:
        """[V, n, C]."""
        x, zero_shot = query["image"], zero_shot_of(params, query)
        return cache_logits(x, Cache.of(params), zero_shot, params["alpha"], params["beta"])

    def loss(self, params: Params, batch: Batch) -> Tensor:
        """Mean cross-entropy [V]."""
        return mean_cross_entropy(self.logits(_moved(params), batch.query), batch.labels)

    def grads(self, params: Params, batch: Batch) -> dict[str, Tensor | Outer]:
        """What text and keys say of each class at each picture, and the pictures' channels."""
        x, moved = batch.query["image"], _moved(params)
        cache, zero_shot = Cache.of(moved), zero_shot_of(moved, batch.query)
        alpha, beta, scale = (
            params[name][:, None, None] for name in ("alpha", "beta", "logit_scale")
        )
        near = torch.exp(beta * (x @ cache.keys.mT - 1))  # [V, B, N]
        r = residual(zero_shot + alpha * class_sums(near, cache, zero_shot.shape[-1]), batch.labels)
        own = cache.labels[:, None].expand(near.shape)
        of_values = alpha * near * r.gather(-1, own)  # [V, B, N]
        of_sums = scale * r + class_sums(beta * of_values, cache, r.shape[-1])  # [V, B, C]
        cut = x.gather(-1, params["channels"][:, None].expand(-1, x.shape[1], -1))  # [V, B, Q]
        return {"residual": Outer(of_sums, cut), "values": of_values.sum(1)}

    def search(self, params: Params, query: Query, labels: Tensor, folds: int = 1) -> Found | None:
        """Whichever of alpha and beta is to be searched."""
        if not self.searched:
            return None
        moved, x = _moved(params), query["image"]
        cache, zero_shot = Cache.of(moved), zero_shot_of(moved, query)
        constants = params["alpha"], params["beta"]
        return Found(*tune(x, cache, zero_shot, labels, *constants, self.searched, folds))


def _moved(params: Params) -> Params:
    """The residual taken into text and keys, as they are served."""
    text, keys, labels = params["weight"], params["keys"], params["labels"]
    channels = params["channels"][:, None].expand(-1, text.shape[1], -1)
    shift = torch.zeros_like(text).scatter(-1, channels, params["residual"])  # [V, C, D]
    moved = keys + shift.gather(1, labels.unsqueeze(-1).expand(keys.shape))
    kept = {name: params[name] for name in ("logit_scale", "labels", "values", "alpha", "beta")}
    return kept | {"weight": text + shift, "keys": moved}
