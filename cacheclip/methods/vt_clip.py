"""VT-CLIP: the text of each class looks at the parts of the picture before they are compared."""

from math import gcd, sqrt

from torch import Tensor
from torch.nn.functional import layer_norm

from cacheclip.heads.attention import attend
from cacheclip.heads.cosine import mean_cross_entropy
from cacheclip.methods.base import Params, Reads, Trained, steps
from cacheclip.task import Batch, Generators, Query, Task, unit

PARTS = "patches"
HEADS = 8  # or the most that divide D


class VtClip(Trained):
    """Logits s x unit(T_c + g O(attention of T_c over S)) (2112.02399).

    S are the features of a picture's M parts, T_c the text of class c: its query Q LN(T_c) looks at
    the keys K LN(S) and takes the mean of the values V LN(S), in 8 heads. Q, K, V and O are D x D
    without biases, LN has no weights of its own (they would be part of Q, K and V), and the gate g
    starts at 0, where it is zero-shot.

    The structure is not verified: no code was released, and what was at hand of the paper says that
    text features explore a picture's regions by cross-attention that few shots train, but not how
    many layers and heads it has, how they are normalised, what follows them, or the recipe. So this
    is one block that does what those words say, by a recipe of ours, chosen on validation pictures
    of clipart. Rows say so under `unverified`, tables by "like".
    """

    paper = "2112.02399"
    unverified = "layers, heads, normalisation and recipe of the attention"
    reads = Reads(support=("image", PARTS), query=("image", PARTS), text=("norm-mean",))
    size = "4 * D * D + 1"
    trainable = ("query", "key", "value", "out", "gate")
    transfers = True
    fused = False
    table = steps(lr=2e-4, epochs=25, batch_size=32)

    def init(self, task: Task, random: Generators) -> Params:
        """Four maps as Glorot starts them, behind a gate that is shut."""
        D = task.text["norm-mean"].shape[-1]
        maps = {name: random.uniform(sqrt(3 / D), (D, D)) for name in self.trainable[:-1]}
        gate = task.text["norm-mean"].new_zeros(task.variants)
        return {**maps, "gate": gate, "logit_scale": gate + task.logit_scale}

    def head(self, params: Params, task: Task) -> Params:
        """What was learned, beside the text of any classes."""
        return params | {"text": task.class_text("norm-mean")}

    def logits(self, params: Params, query: Query) -> Tensor:
        """[V, n, C]."""
        text, parts, x = params["text"], query[PARTS], query["image"]
        n, M, D = parts.shape[-3:]
        rows = layer_norm(parts.flatten(-3, -2), (D,))  # [(V,) n M, D]
        keys, values = ((rows @ params[name]).view(-1, n, M, D) for name in ("key", "value"))
        asked = layer_norm(text, (D,)) @ params["query"]  # [V, C, D]
        found = attend(asked.unsqueeze(1), keys, values, gcd(HEADS, D))  # [V, n, C, D]
        moved = (found.flatten(1, 2) @ params["out"]).view_as(found)
        guided = unit(text.unsqueeze(1) + params["gate"][:, None, None, None] * moved)
        return params["logit_scale"][:, None, None] * (guided @ x.unsqueeze(-1)).squeeze(-1)

    def loss(self, params: Params, batch: Batch) -> Tensor:
        """Mean cross-entropy [V]."""
        logits = self.logits(self.head(params, batch.task), batch.query)
        return mean_cross_entropy(logits, batch.labels)
