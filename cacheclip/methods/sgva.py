"""SgVA-CLIP: an adapter before the image projection, told apart by class means, taught by text."""

from collections.abc import Iterator, Mapping
from math import sqrt

import torch
from torch import Tensor

from cacheclip.heads.classes import class_means
from cacheclip.heads.cosine import cosine_logits, mean_cross_entropy
from cacheclip.heads.episodes import distilled, episode_logits, episodes
from cacheclip.heads.points import tried
from cacheclip.heads.prompts import class_features, prompted
from cacheclip.heads.text_transformer import TextTransformer
from cacheclip.methods.base import (
    SEARCH,
    VIEWS,
    Found,
    Move,
    Params,
    Reads,
    Setting,
    Settings,
    Trained,
    steps,
)
from cacheclip.task import Batch, Generators, Query, Task, unit

PICTURES = "pre-projection"
RATIO = 0.5  # of the adapter before the first step
TRIED = tuple(k / 10 for k in range(11))  # fusion, from zero-shot outwards
RATES = {1: (5e-4, 5e-5), 2: (1.5e-3, 2e-4), 4: (3e-3, 4e-4), 8: (1.5e-3, 1e-3)}  # by shots


class Sgva(Trained):
    """Logits (1 - fusion) s x t_c + fusion s h/|h| p_c, h = ReLU(a W2 ReLU(W1 v) + (1 - a) v).

    v [E] is the feature before the encoder's projection P, b; W1 gives 2 E numbers, neither layer
    has a bias, a is learned from 0.5, and p_c is the mean of h/|h| over the pictures of a class
    (2211.16191). The loss is the cross-entropy of s h/|h| p_c among the classes of an episode, and
    that of s z t_c against s x t_c, both over 5, with z = norm(h P + b): text teaches and is not
    taught. An episode is `way` classes, whose pictures make the means and are asked about; an epoch
    has as many episodes as show each class once.

    t_c is the frozen text of the templates, or under prompts=learned that of CoOp's words, four
    from "a photo of a", which the cross-entropy of s x t_c moves at a rate of their own: the full
    recipe of the paper, for which extract takes --layers text-tower. At fusion 0 text alone
    answers, with frozen prompts zero-shot.

    Classes that were not learned from are served by their own text, and by means of their own
    support pictures: such an answer has read new shots.

    SGD with Nesterov's momentum 0.9 and decay 5e-4, an epoch at 1e-5 and a cosine over 100. The
    release sets both rates by hand for each data set and number of shots, in effect on test; here
    they are those of most sets. It validates at fusion 0.5 and then searches; here 0.5 stays unless
    a policy searches the tenths from 0 to 1.

    Departures. The release finds v back by pinv(P), which is what the projection keeps of it; here
    it is v itself. The release projects h/|h| and leaves the length of the product as it is; here z
    has its length taken off, as any feature that meets text. Its command asks for the schedule
    above, but its code steps that on an optimizer that moves nothing: what it ran is
    schedule=constant. An episode asks about the pictures that make its means, as in the release:
    the word commonly means others. It computes in fp16, here it is float32.
    """

    paper = "2211.16191"
    size = "4 * E * E + 1"
    transfers = True
    reads_new_shots = True
    fused = False
    table = {
        "prompts": Setting("frozen", words=("frozen", "learned"), elsewhere="; para-update"),
        "fusion": Setting(
            0.5,
            0.0,
            1.0,
            grid=(SEARCH,),
            words=(SEARCH,),
            zero_shot="low",
            search=(TRIED[0], TRIED[-1]),
            elsewhere="lambda; lamda",
        ),
        "way": Setting(50, 2, 10**6, shape=True, elsewhere="N; train-way"),
        "context_lr": Setting(3.5e-3, 0.0, elsewhere="; learning_ratep"),
        **steps(lr=3.5e-3, epochs=100, optimizer="sgd", weight_decay=5e-4, schedule="dassl"),
        **VIEWS,
    }
    del table["batch_size"]  # an episode is the batch
    off = {"prompts": "frozen", "fusion": 0.0}

    @classmethod
    def by_shots(cls, shots: int) -> Settings:
        """The rates of the adapter and of the words."""
        last = max((k for k in RATES if k <= shots), default=1)
        lr, context_lr = RATES[last] if shots < 16 else (3.5e-3, 3.5e-3)
        return {"lr": lr, "context_lr": context_lr}

    @property
    def _learns_words(self) -> bool:
        return self.settings["prompts"] == "learned"

    @property
    def reads(self) -> Reads:
        """Both sides of the projection; for learned words the tower, in a search too."""
        tower = ("tower",) * self._learns_words
        return Reads(
            support=("image", PICTURES),
            query=("image", PICTURES),
            text=("tokens" if self._learns_words else "norm-mean",),
            encoder=("projection", "projection-bias", *tower),
            query_encoder=tower,
        )

    @property
    def trainable(self) -> tuple[str, ...]:
        """The two layers and their ratio, and the words where they are learned."""
        return ("down", "up", "ratio", *("context",) * self._learns_words)

    def per_epoch(self, task: Task) -> int:
        """Episodes that show each class once."""
        return max(1, task.n_classes // int(self.settings["way"]))

    def order(self, task: Task, random: Generators) -> Iterator[Tensor]:
        """An episode a step."""
        return episodes(task.labels, task.n_classes, int(self.settings["way"]), random)

    def moves(self, task: Task) -> Mapping[str, Move]:
        """All look ahead, the words at their own rate."""
        lr = task.settings["context_lr"] / task.settings["lr"].clamp_min(1e-12)
        own = {"context": Move(lr, nesterov=True)}
        return {name: own.get(name, Move(nesterov=True)) for name in self.trainable}

    def init(self, task: Task, random: Generators) -> Params:
        """The layers as torch's Linear starts them; the support set, for the means of a search."""
        views = task.flat()
        v = views.support()[PICTURES]  # [V, n, E]
        V, _, E = v.shape
        params = {
            "down": random.uniform(1 / sqrt(E), (2 * E, E)),  # [V, 2E, E]
            "up": random.uniform(1 / sqrt(2 * E), (2 * E, E)),  # [V, 2E, E], W2^T
            "ratio": v.new_full((V,), RATIO),
            "support": v,
            "labels": views.labels,
            "fusion": task.settings["fusion"],
            "logit_scale": v.new_full((V,), task.logit_scale),
        }
        if not self._learns_words:
            return params | {"weight": task.class_text("norm-mean")}
        tower = TextTransformer.of(task.encoder["tower"], v.dtype)
        words = tower.embed(task.encoder["tower"]["context"])  # [M, d], those of "a photo of a"
        tokens = task.text["tokens"].expand(V, -1, -1)
        return params | {"context": words.expand(V, -1, -1), "tokens": tokens}

    def head(self, params: Params, task: Task) -> Params:
        """The text and the means of any classes, beside what makes those of others."""
        views = task.flat()
        h = unit(_adapted(params, views.support()[PICTURES]))
        own = {name: params[name] for name in (*self.trainable, "fusion", "logit_scale")}
        return own | {
            "weight": self._text(params, task),
            "means": class_means(h, views.labels, task.n_classes),
        }

    def logits(self, params: Params, query: Query) -> Tensor:
        """[V, n, C]."""
        text, pictures = _both(params, query)
        return text.lerp(pictures, params["fusion"][:, None, None])

    def search(self, params: Params, query: Query, labels: Tensor, folds: int = 1) -> Found | None:
        """Each fusion that is tried, on the same two logits."""
        if not self.searched:
            return None
        weight = params["weight"] if "weight" in params else _read(params, query)
        h = unit(_adapted(params, params["support"]))
        means = class_means(h, params["labels"], weight.shape[1])
        text, pictures = _both(params | {"weight": weight, "means": means}, query)
        fusions = [torch.full_like(params["fusion"], fusion) for fusion in TRIED]
        points = (({"fusion": own}, text.lerp(pictures, own[:, None, None])) for own in fusions)
        return Found(*tried(points, labels, folds))

    def loss(self, params: Params, batch: Batch) -> Tensor:
        """Mean cross-entropies [V]: among the episode's classes, of what text teaches, of words."""
        scale, encoder = params["logit_scale"], batch.task.encoder
        h = _adapted(params, batch.query[PICTURES])  # [V, B, E]
        z = unit(h @ encoder["projection"].to(h) + encoder["projection-bias"].to(h))
        weight = self._text(params, batch.task)
        teacher = cosine_logits(batch.query, weight, scale)
        student = cosine_logits(Query({"image": z}), weight.detach(), scale)
        among = episode_logits(unit(h), batch.labels, batch.task.n_classes, scale)
        loss = mean_cross_entropy(among, batch.labels) + distilled(student, teacher.detach())
        return loss + mean_cross_entropy(teacher, batch.labels) if self._learns_words else loss

    def _text(self, params: Params, task: Task) -> Tensor:
        """Unit class text [V, C, D] of a task."""
        if self._learns_words:
            return prompted(params, task)["weight"]
        return task.class_text("norm-mean")


def _adapted(params: Params, v: Tensor) -> Tensor:
    """What the adapter makes of features [n, E] or [V, n, E]: [V, n, E], not of unit length."""
    ratio = params["ratio"][:, None, None]
    hidden = (v @ params["down"].mT).relu()  # [V, n, 2E]
    return (ratio * (hidden @ params["up"]) + (1 - ratio) * v).relu()


def _both(params: Params, query: Query) -> tuple[Tensor, Tensor]:
    """The logits by text and those by the means of pictures, [V, n, C] each."""
    scale = params["logit_scale"]
    adapted = Query({"image": unit(_adapted(params, query[PICTURES]))})
    text = cosine_logits(query, params["weight"], scale)
    return text, cosine_logits(adapted, params["means"], scale)


def _read(params: Params, query: Query) -> Tensor:
    """Unit text [V, C, D] of the words that were learned, before a head holds it."""
    tower = TextTransformer.of(query.encoder["tower"], params["context"].dtype)
    return unit(class_features(tower, params["tokens"][0], params["context"]))
