"""Meta-Adapter: one learned attention by which any class's text looks at its few shots."""

from math import sqrt

from torch import Tensor

from cacheclip.heads.cosine import cosine_logits, mean_cross_entropy
from cacheclip.heads.own_shots import Attention
from cacheclip.methods.base import VIEWS, Params, Reads, Trained, steps
from cacheclip.task import Batch, Generators, Query, Task

LEARNED = ("query", "key", "gate", "gate_bias")


class MetaAdapter(Trained):
    """Logits s x t'_c, t'_c = norm(t_c + g_c u_c) (2311.03774): u_c is what t_c sees of its class.

    The shots k of a class and its text are S = [t; k_1 ... k_K], and u = softmax((W_q t)(W_k S)^T /
    sqrt D) S, the values unprojected; g = sigmoid(w t + b). W_q, W_k and w are learned on the
    classes of a fit and know none of them: any other classes are served from their own text and
    shots, of any number. Such a row is no zero-shot answer, and names the shots it read.

    Shots are unit rows along the mean of their `views`. W_q, W_k and w start as Xavier's uniform
    numbers, b as 1, a gate of 0.73. The recipe is the released one: AdamW with eps 1e-4, lr 1e-4,
    batches of 64, 5 epochs, a cosine. At few classes that is few steps: epochs=50 is worth trying.
    The release's decay is not stated, and is 0.01 here, AdamW's own.

    Departures. Steps see the support pictures themselves, which are among the keys of their class,
    in order; the release pushes the newest features into queues of K. It keeps the epoch that is
    best on novel test pictures, which is an oracle: here the last counts, or under stop=search the
    one that is likeliest on held-out pictures.
    """

    paper = "2311.03774"
    reads = Reads(support=("image", "image-norm"), text=("norm-mean",))
    size = "2 * D * D + D + 1"
    trainable = LEARNED
    transfers = True
    reads_new_shots = True
    eps = 1e-4
    fused = False
    table = {
        **steps(lr=1e-4, epochs=5, batch_size=64, weight_decay=0.01),
        **VIEWS,
    }

    def init(self, task: Task, random: Generators) -> Params:
        """W_q and W_k [V, D, D], w [V, D], b [V]."""
        text = task.class_text("norm-mean")
        V, _, D = text.shape
        return {
            "query": random.uniform(sqrt(6 / (D + D)), (D, D)),
            "key": random.uniform(sqrt(6 / (D + D)), (D, D)),
            "gate": random.uniform(sqrt(6 / (D + 1)), (D,)),
            "gate_bias": text.new_ones(V),
            "logit_scale": text.new_full((V,), task.logit_scale),
        }

    def head(self, params: Params, task: Task) -> Params:
        """The refined text of any classes, beside what refines that of others."""
        attention = Attention(*(params[name] for name in LEARNED))
        text = task.class_text("norm-mean")
        own = {name: params[name] for name in (*LEARNED, "logit_scale")}
        return own | {"weight": attention.refined(text, task.mean_of_views(), task.labels)}

    def logits(self, params: Params, query: Query) -> Tensor:
        """[V, n, C]."""
        return cosine_logits(query, params["weight"], params["logit_scale"])

    def loss(self, params: Params, batch: Batch) -> Tensor:
        """Mean cross-entropy [V] over all classes."""
        logits = self.logits(self.head(params, batch.task), batch.query)
        return mean_cross_entropy(logits, batch.labels)
