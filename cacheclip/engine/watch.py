"""The epoch after which a run should have stopped, by pictures held out from it."""

import torch
from torch import Tensor

from cacheclip.heads.temperature import label_log_p
from cacheclip.methods.base import Params, Trained
from cacheclip.task import Query, Task

STOPPED = "stopped"  # `Watch.stopped` among what a run gives


class Watch:
    """What each variant had learned when its held-out pictures were likeliest.

    Likeliest at the temperature that suits a variant best, so that a head that is merely bolder
    than before does not count as better or worse. The first of equals stays.

    Attributes:
        best: the trainable params of each variant after that epoch.
        stopped: [V], how many epochs that were.

    Args:
        method: with its static settings.
        task: V variants, for what a head is made of.
        held: the pictures held out from each, equally many; its pool has the layers of a query.
    """

    def __init__(self, method: Trained, task: Task, held: Task) -> None:
        self._method, self._task = method, task
        same = bool((held.rows == held.rows[:1]).all())  # one copy serves all variants
        shared = Query({name: x[held.rows[0]] for name, x in held.pool.items()}, held.encoder)
        self._query = shared if same else held.support()
        self._labels = held.labels
        self._log_p = torch.full((held.variants,), -torch.inf, device=held.device)
        self._epochs = 0
        self.best: dict[str, Tensor] = {}
        self.stopped = torch.ones(held.variants, dtype=torch.int64, device=held.device)

    def look(self, params: Params) -> None:
        """Keep what is learned by now of the variants that have never done better."""
        now = {name: x.detach() for name, x in params.items()}
        with torch.no_grad():
            logits = self._method.logits(self._method.head(now, self._task), self._query)
            log_p = label_log_p(logits, self._labels).mean(1).to(self._log_p)  # [V]
        better = log_p > self._log_p
        self._epochs += 1
        self.stopped[better] = self._epochs
        self._log_p = torch.where(better, log_p, self._log_p)
        if not self.best:
            self.best = {name: now[name].clone() for name in self._method.trainable}
            return
        for name, kept in self.best.items():
            kept[better] = now[name][better]
