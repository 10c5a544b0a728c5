"""`support-loo`: the grid against the constants on parts of the support, each left out in turn."""

from torch import Tensor

from cacheclip.methods.base import Method
from cacheclip.select.base import SAME, Choices, Policy, mean_log_p


class SupportLoo(Policy):
    """No picture is asked for beyond the support: F = min(K, 4) folds of it, all as one stack.

    A candidate is fitted F times, each time without one fold, and its answers for the folds that
    were left out are judged together, at one temperature, by the rule of every policy. The winner
    is fitted once more on all of the support. Where a class has one support picture nothing can be
    left out, and the constants stand. No method looks for an epoch to stop at: a fit on all of the
    support would have no pictures left to tell it. Folds that cannot tell the constants from
    zero-shot, as GDA's of one picture a class, leave it at zero-shot.
    """

    name = "support-loo"
    held = "folds"

    def axes(self, method: type[Method], choices: Choices) -> Choices:
        """The grid without `stop`."""
        axes = super().axes(method, choices)
        return {name: own for name, own in axes.items() if name != "stop" or name in choices}

    def start(self, log_p: Tensor, constant: int, zero_shot: int | None = None) -> int:
        """Zero-shot also where the constants are no likelier."""
        mean = mean_log_p(log_p)
        equal = zero_shot is not None and mean[zero_shot] > mean[constant] - SAME
        return zero_shot if zero_shot is not None and equal else constant


POLICY = SupportLoo()
