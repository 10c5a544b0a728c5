"""CLIP-Adapter: a bottleneck MLP blended with the frozen feature, of images, of text, or both."""

from math import sqrt

from torch import Tensor

from cacheclip.heads.cosine import cosine_logits, mean_cross_entropy
from cacheclip.kernels import cosine_cross_entropy, residual_mlp
from cacheclip.kernels.weight_grad_update import Outer
from cacheclip.methods.base import (
    CLASS_WEIGHT,
    PRECISIONS,
    PRIOR,
    VIEWS,
    Params,
    Reads,
    Setting,
    Settings,
    Trained,
    steps,
)
from cacheclip.task import Batch, Generators, Query, Task, unit

IMAGE, TEXT = "", "text_"  # what the names of a branch's params begin with
BRANCHES = {"image": (IMAGE,), "text": (TEXT,), "both": (IMAGE, TEXT)}


class ClipAdapter(Trained):
    """f* = alpha ReLU(W2 ReLU(W1 x)) + (1 - alpha) x, then s f*/|f*| T^T (2110.04544, eq. 2-5).

    Both layers are bias-free and end in ReLU, hidden width D / reduction. The adapter is positively
    homogeneous, so unit features give the logits that raw ones give.

    `branch` is what is adapted: the picture's feature, the rows of T (the same form with weights of
    its own, then normalised), or both. `alpha` is the ratio of each adapted branch, so it stands
    for the paper's alpha and its beta of the text alike. With alpha=learned each adapted branch
    learns its own, sigmoid(logit(0.2) + shift) from shift = 0: weight decay, which acts on the
    shift as on every weight, draws the ratio back to 0.2, where on the whole logit it would draw it
    to a half. The training loss likes large ratios: on few shots the constant is usually better.

    Recipes. as-code, the released one: SGD with momentum 0.9 and coupled decay 5e-4, batch 32,
    CoOp's epochs. as-paper: Adam at a constant 1e-5, batch 32. The paper states neither epochs nor
    schedule nor decay: epochs stay CoOp's, the others are the plainest. It chose the ratio for each
    data set and does not say on which images; here 0.2 stays unless a policy chooses.

    Each epoch of the release crops the pictures anew; here it takes the next of their `views`, by
    default the picture itself.

    `precision` is that of the products of the image branch's steps: auto takes bf16 where the CPU
    has hardware for it and a batch is large enough to gain. Weights and logits stay fp32.
    """

    paper = "2110.04544"
    version = 2
    reads = Reads(text=("norm-mean",))
    size = "2 * D * (D // reduction)"
    drop_last = True
    transfers = True
    table = {
        "branch": Setting("image", words=tuple(BRANCHES)),
        "alpha": Setting(
            0.2,
            0.0,
            1.0,
            grid=(0.0, 0.2, 0.4, 0.6, 0.8),
            words=("learned",),
            zero_shot="low",
            elsewhere="alpha, of the text beta; ratio",
        ),
        "reduction": Setting(4, 1, 1024, shape=True, elsewhere="; reduction"),
        **steps(
            lr=2e-3,
            epochs=200,
            batch_size=32,
            optimizer="sgd",
            weight_decay=5e-4,
            schedule="dassl",
        ),
        "precision": Setting("auto", words=PRECISIONS),
        **CLASS_WEIGHT,
        **PRIOR,
        **VIEWS,
    }
    off = {"alpha": 0.0}
    recipes = {
        "as-code": {},
        "as-paper": {"optimizer": "adam", "lr": 1e-5, "weight_decay": 0.0, "schedule": "constant"},
    }

    @classmethod
    def by_shots(cls, shots: int) -> Settings:
        """CoOp's epochs, 50 at one shot, 100 at two to four, 200 above."""
        return {"epochs": 50 if shots < 2 else 100 if shots < 8 else 200}

    @property
    def _branches(self) -> tuple[str, ...]:
        return BRANCHES[str(self.settings["branch"])]

    @property
    def _learned(self) -> bool:
        return self.settings.get("alpha") == "learned"

    @property
    def trainable(self) -> tuple[str, ...]:
        """The two layers of each adapted branch, and the shift of its ratio if that is learned."""
        own = ("down", "up", "shift") if self._learned else ("down", "up")
        return tuple(branch + name for branch in self._branches for name in own)

    def init(self, task: Task, random: Generators) -> Params:
        """W1 and W2 as torch's Linear starts them: uniform within 1/sqrt(fan in)."""
        text = task.class_text("norm-mean")
        V, _, D = text.shape
        H = self._hidden(D)
        params = {
            "weight": text,
            "logit_scale": text.new_full((V,), task.logit_scale),
            "alpha": task.settings["alpha"],
        }
        for branch in self._branches:
            params[f"{branch}down"] = random.uniform(1 / sqrt(D), (H, D))  # [V, H, D]
            params[f"{branch}up"] = random.uniform(1 / sqrt(H), (H, D))  # [V, H, D], W2^T
            if self._learned:
                params[f"{branch}shift"] = text.new_zeros(V)
        return params

    def head(self, params: Params, task: Task) -> Params:
        """The layers beside any classes' text, which those of the text branch adapt."""
        return params | {"weight": task.class_text("norm-mean")}

    def logits(self, params: Params, query: Query) -> Tensor:
        """[V, n, C]."""
        x, text = query["image"], params["weight"]
        if IMAGE in self._branches:
            x = self._adapted(params, IMAGE, x)
        if TEXT in self._branches:
            text = self._adapted(params, TEXT, text)
        scale, bias = params["logit_scale"], params.get("bias")
        return cosine_logits(Query({"image": x}), text, scale, bias)

    def learned(self, params: Params) -> dict[str, float]:
        """The ratio of the adapted branch, or of both as `image_alpha` and `text_alpha`."""
        if not self._learned:
            return {}
        ratios = [self._ratio(params, branch).item() for branch in self._branches]
        names = ["alpha"] if len(ratios) == 1 else ["image_alpha", "text_alpha"]
        return dict(zip(names, ratios, strict=True))

    def loss(self, params: Params, batch: Batch) -> Tensor:
        """Mean cross-entropy [V]."""
        logits = self.logits(params, batch.query)
        return mean_cross_entropy(logits, batch.labels, batch.weights)

    def half(self, task: Task) -> bool:
        """Pictures alone, where the kernel takes them: text's gradients are not worth rounding."""
        narrow = self._hidden(task.class_text("norm-mean").shape[-1]) <= residual_mlp.MAX_HIDDEN
        return self._branches == (IMAGE,) and narrow

    def _hidden(self, D: int) -> int:
        return max(1, D // int(self.settings["reduction"]))

    def grads(self, params: Params, batch: Batch) -> dict[str, Tensor | Outer] | None:
        """The fused kernels: forwards of the MLPs and the loss, then their backwards.

        The mean class text is taken off all classes: neither loss nor gradient can tell, and what
        is left of the cosines is small enough for 16-bit products. Left to autograd where the
        hidden layer is wider than the kernel holds, and for text under class weights: its gradient
        is a sum over pictures already when the kernel gives it.
        """
        H = params[f"{self._branches[0]}down"].shape[1]
        if H > residual_mlp.MAX_HIDDEN or (batch.weights is not None and TEXT in self._branches):
            return None
        work, scale = batch.work, float(params["logit_scale"][0])
        pool, text = batch.pool["image"], params["weight"][0]  # one text for all variants
        kept: dict[str, residual_mlp.Saved] = {}
        if IMAGE in self._branches:
            x, kept[IMAGE] = self._adapt(params, IMAGE, pool, batch)
        else:
            x = batch.query["image"]
        if TEXT in self._branches:
            text, kept[TEXT] = self._adapt(params, TEXT, text, batch)
            centred = text - text.mean(-2, keepdim=True)  # [V, C, D]
        else:
            centred = work["loss"].keep("centred", lambda: (text - text.mean(0)).to(x.dtype))
        _, scored = cosine_cross_entropy.forward(
            x, centred, batch.labels, scale, wants_loss=False, work=work["loss"]
        )
        blame = cosine_cross_entropy.backward(
            scored, None, scale, wants_text=TEXT in kept, work=work["loss"]
        )
        if batch.weights is not None:
            blame.y.mul_(batch.weights[..., None])
        gradients: dict[str, Tensor | Outer] = {}
        for branch, dz in ((IMAGE, blame.y), (TEXT, blame.text)):
            if branch not in kept or dz is None:
                continue
            own = residual_mlp.backward(
                kept[branch], dz, wants_alpha=self._learned, work=work[f"{branch}adapter"]
            )
            gradients |= {f"{branch}down": own.w1, f"{branch}up": Outer(own.w2.b, own.w2.a)}
            if self._learned and own.alpha is not None:
                ratio = self._ratio(params, branch)
                gradients[f"{branch}shift"] = own.alpha * ratio * (1 - ratio)
        return gradients

    def _adapt(
        self, params: Params, branch: str, x: Tensor, batch: Batch
    ) -> tuple[Tensor, residual_mlp.Saved]:
        """A branch through its kernel: blended pictures of the batch, or unit rows of text."""
        work = batch.work[f"{branch}adapter"]
        down, up = (
            work.rounded(name, params[f"{branch}{name}"], x.dtype) for name in ("down", "up")
        )
        return residual_mlp.forward(
            *(x, down, up.mT, self._ratio(params, branch)),
            batch.rows if branch == IMAGE else None,
            normalize=branch == TEXT,
            work=work,
        )

    def _ratio(self, params: Params, branch: str) -> Tensor:
        """How much of the adapter a branch blends in: [V]."""
        if not self._learned:
            return params["alpha"]
        return (params["alpha"].logit() + params[f"{branch}shift"]).sigmoid()

    def _adapted(self, params: Params, branch: str, x: Tensor) -> Tensor:
        """Unit rows of a branch [n, D] or [V, n, D] after its adapter: [V, n, D], unit again."""
        hidden = (x @ params[f"{branch}down"].transpose(1, 2)).relu()  # [V, n, H]
        adapted = (hidden @ params[f"{branch}up"]).relu()  # [V, n, D]
        alpha = self._ratio(params, branch)[:, None, None]
        return unit(alpha * adapted + (1 - alpha) * x)
