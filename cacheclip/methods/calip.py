"""CALIP: class text and the parts of a picture look at each other, and nothing is trained."""

from itertools import product

import torch
from torch import Tensor

from cacheclip.heads.attention import seen
from cacheclip.heads.cosine import cosine_logits
from cacheclip.heads.points import tried
from cacheclip.methods.base import ClosedForm, Found, Params, Reads, from_zero
from cacheclip.task import Query, Task, unit

PARTS = "patches"
SHARPNESS = 2.0  # of both attentions
AT_ONCE = 256  # pictures of a search: what attention holds is M (C + D) numbers for each
TRIED = {
    "beta2": tuple(round(0.2 * k, 2) for k in range(11)),
    "beta3": tuple(round(0.02 * k, 2) for k in range(9)),
}


class Calip(ClosedForm):
    """Logits s (x T^T + beta2 x T_a^T + beta3 p T^T) (2209.14169).

    S are the unit features of a picture's M parts (49 of a ResNet, 16 of nano; of a vision
    transformer its tokens, which no CLIP was trained to project) and A = 2 S T^T. Text looks at the
    picture: T_a is the mean of S, for each class under the softmax of A over parts. Parts look at
    the text: each is the mean of T under the softmax of A over classes, and p is the mean of those
    means plus their maximum. Neither is normalised again.

    The constants are those of the released run, ImageNet through RN101. The release searches 200
    values each of beta2 from 0.001 to 2 and of beta3 from 0.001 to 0.156 on the test pictures; a
    selecting policy tries 11 and 9 on validation pictures, zero-shot among them.
    """

    paper = "2209.14169"
    learns = "held-out"
    reads = Reads(support=(), query=("image", PARTS), text=("norm-mean",))
    table = {
        "beta2": from_zero(2.0, (TRIED["beta2"][0], TRIED["beta2"][-1]), "beta_2; beta2"),
        "beta3": from_zero(0.1, (TRIED["beta3"][0], TRIED["beta3"][-1]), "beta_3; beta3"),
    }
    off = {"beta2": 0.0, "beta3": 0.0}

    def solve(self, task: Task) -> Params:
        """The text and the weights: nothing is computed."""
        text = task.class_text("norm-mean")
        scale = text.new_full((len(text),), task.logit_scale)
        return {"weight": text, "logit_scale": scale, **task.settings}

    def logits(self, params: Params, query: Query) -> Tensor:
        """[V, n, C]."""
        return _weighed(params, *_three(params, query))

    def search(self, params: Params, query: Query, labels: Tensor, folds: int = 1) -> Found | None:
        """Each pair of weights that is tried, on the same three logits."""
        searched = self.searched
        if not searched:
            return None
        n = len(query)
        some = [_three(params, query.part(k, min(n, k + AT_ONCE))) for k in range(0, n, AT_ONCE)]
        plain, *others = (torch.cat(logits, 1) for logits in zip(*some, strict=True))
        grid = product(*(TRIED[name] for name in searched))
        # In float64, so that the constants are known among what is tried.
        points = (
            {
                name: torch.full_like(params[name], x, dtype=torch.float64)
                for name, x in zip(searched, values, strict=True)
            }
            for values in grid
        )
        logits = ((own, _weighed(params | own, plain, *others)) for own in points)
        return Found(*tried(logits, labels, folds))


def _weighed(params: Params, plain: Tensor, by_text: Tensor, by_parts: Tensor) -> Tensor:
    beta2, beta3 = (params[name].to(plain)[:, None, None] for name in TRIED)
    return plain + beta2 * by_text + beta3 * by_parts


def _three(params: Params, query: Query) -> tuple[Tensor, Tensor, Tensor]:
    """Zero-shot's logits, those by the text that looked and by the parts that looked: [V, n, C]."""
    text, scale = params["weight"], params["logit_scale"]
    parts, x = unit(query[PARTS]), query["image"]  # [(V,) n, M, D], [(V,) n, D]
    attention = SHARPNESS * parts @ text.mT.unsqueeze(1)  # [V, n, M, C]
    own = parts @ x.unsqueeze(-1)  # [(V,) n, M, 1]: T_a itself is never formed
    by_text = (attention.softmax(-2) * own).sum(-2) * scale[:, None, None]
    told = seen(attention, text.unsqueeze(1))  # [V, n, M, D]
    pooled = told.mean(-2) + told.amax(-2)
    by_parts = cosine_logits(Query({"image": pooled}), text, scale)
    return cosine_logits(query, text, scale), by_text, by_parts
