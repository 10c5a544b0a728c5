"""CLIP-Adapter on the image side: a bottleneck MLP blended with the frozen feature."""

from math import sqrt

import torch
from torch import Tensor

from cacheclip.heads.cosine import cosine_logits, mean_cross_entropy
from cacheclip.kernels import cosine_cross_entropy, residual_mlp
from cacheclip.kernels.weight_grad_update import Outer
from cacheclip.methods.base import STEP_BOUNDS, Params, Settings, Trained
from cacheclip.task import Batch, Generators, Query, Task, unit


class ClipAdapter(Trained):
    """f* = alpha ReLU(W2 ReLU(W1 x)) + (1 - alpha) x, then s f*/|f*| T^T (2110.04544, eq. 2-5).

    Both layers are bias-free and end in ReLU, hidden width D / reduction. The adapter is positively
    homogeneous, so unit features give the logits that raw ones give. The recipe is the released
    one: SGD with momentum 0.9 and coupled decay 5e-4, batch 32, CoOp's epochs.
    """

    paper = "2110.04544"
    text = ("norm-mean",)
    static = ("reduction", "epochs", "batch_size", "optimizer", "schedule")
    vector = ("alpha", "lr", "weight_decay")
    trainable = ("down", "up")
    drop_last = True
    defaults = {
        "alpha": 0.2,
        "reduction": 4,
        "lr": 2e-3,
        "epochs": 200,
        "batch_size": 32,
        "optimizer": "sgd",
        "weight_decay": 5e-4,
        "schedule": "dassl",
    }
    bounds = {**STEP_BOUNDS, "alpha": (0.0, 1.0), "reduction": (1, 1024)}
    grid = {"alpha": (0.2, 0.4, 0.6, 0.8)}

    @classmethod
    def fixed(cls, shots: int, logit_scale: float) -> Settings:
        """CoOp's epochs, 50 at one shot, 100 at two to four, 200 above; lr 2e-3 at logit scale 100.

        A step of SGD moves the weights by lr s and the logits by lr s^2, so that product is kept.
        """
        epochs = 50 if shots < 2 else 100 if shots < 8 else 200
        return dict(cls.defaults) | {"epochs": epochs, "lr": round(20 / logit_scale**2, 6)}

    def init(self, task: Task, random: Generators) -> Params:
        """W1 and W2 as torch's Linear starts them: uniform within 1/sqrt(fan in)."""
        text = task.class_text("norm-mean")
        D = text.shape[-1]
        H = max(1, D // int(self.settings["reduction"]))
        return {
            "down": random.uniform(1 / sqrt(D), (H, D)),  # [V, H, D]
            "up": random.uniform(1 / sqrt(H), (D, H)),  # [V, D, H]
            "weight": text,
            "logit_scale": text.new_full((len(text),), task.logit_scale),
            "alpha": task.settings["alpha"],
        }

    def logits(self, params: Params, query: Query) -> Tensor:
        """[V, n, C]."""
        x = query["image"]
        hidden = (x @ params["down"].transpose(1, 2)).relu()  # [V, n, H]
        adapted = (hidden @ params["up"].transpose(1, 2)).relu()  # [V, n, D]
        alpha = params["alpha"][:, None, None]
        blended = Query({"image": unit(alpha * adapted + (1 - alpha) * x)})
        return cosine_logits(blended, params["weight"], params["logit_scale"])

    def loss(self, params: Params, batch: Batch) -> Tensor:
        """Mean cross-entropy [V]."""
        return mean_cross_entropy(self.logits(params, batch.query), batch.labels)

    def grads(self, params: Params, batch: Batch) -> dict[str, Tensor | Outer]:
        """The fused kernels: MLP and loss forwards, then both backwards."""
        adapter, scale = batch.work["adapter"], float(params["logit_scale"][0])
        text = params["weight"][0]  # one text for all variants: one flat product, not V
        down, up, alpha = params["down"], params["up"], params["alpha"]
        blended, kept = residual_mlp.forward(
            *(batch.pool["image"], down, up, alpha, batch.rows), normalize=False, work=adapter
        )
        loss, scored = cosine_cross_entropy.forward(
            blended, text, batch.labels, scale, work=batch.work["loss"]
        )
        blame = cosine_cross_entropy.backward(
            scored, torch.ones_like(loss), scale, work=batch.work["loss"]
        )
        gradients = residual_mlp.backward(kept, blame.y, work=adapter)
        return {"down": gradients.w1, "up": gradients.w2}
