"""What unequal classes do to a head, and how to take it out: weights in the loss, a bias after it.

`class_weight` is scikit-learn's: under `balanced` a picture counts N / (C n_c), so that each class
weighs the same. `prior=uniform` subtracts from every logit the log of its class's share of that
weight: a head that a cross-entropy fitted has learned those shares as the prior of its classes
(2007.07314, section 4.1). Under both, the shares are equal and nothing is subtracted.
"""

from torch import Tensor

from cacheclip.heads.classes import class_counts, class_sums


def balanced_weights(labels: Tensor, n_classes: int) -> Tensor:
    """What each picture counts, N / (C n_c) with C the classes that have any: [V, N] float64."""
    counts = class_counts(labels, n_classes)
    present = (counts > 0).sum(1, keepdim=True)
    return labels.shape[1] / (present * counts.gather(1, labels)).double()


def log_shares(labels: Tensor, weights: Tensor | None, n_classes: int) -> Tensor:
    """The log of each class's share of the weight, [V, C] float64; 0 for a class without any.

    Args:
        labels: [V, N] int64.
        weights: [V, N], or None where every picture counts 1.
        n_classes: C.
    """
    each = labels.new_ones(labels.shape) if weights is None else weights
    sums = class_sums(each.double(), labels, n_classes)
    shares = sums / sums.sum(1, keepdim=True)
    return shares.where(shares > 0, 1).log()
