"""The channels of a feature that tell classes apart (2304.01195, equations 3 to 6)."""

from torch import Tensor


def telling(text: Tensor, means: Tensor, variance: Tensor, share: float) -> Tensor:
    """The channels of the largest variance var_c(T_cd) - (1 - variance) S_d, rising.

    S_d is the mean product in channel d of two members of different classes. All such products of
    sums A_c add up to (sum_c A_c)^2 - sum_c A_c^2; with means for sums that is the mean over pairs.

    Args:
        text: T [V, C, D].
        means: [V, C, D], the mean of each class's members.
        variance: [V].
        share: of the channels, how many are taken.

    Returns:
        [V, Q] int64, at least one.
    """
    C, D = text.shape[1:]
    if C == 1:
        score = variance.new_zeros(len(text), D)  # no two classes: any channels do
        return score.topk(max(1, round(share * D))).indices.sort().values
    alike = (means.sum(1).square() - means.square().sum(1)) / (C * (C - 1))
    score = variance[:, None] * text.var(1) - (1 - variance[:, None]) * alike
    return score.topk(max(1, round(share * D))).indices.sort().values
