"""The best alpha of logits Z + alpha A, over all numbers from 0 to `MOST` at once.

A picture is right where its label's logit beats every rival's: a half line of alpha for each rival,
so together one open interval. The best alpha lies where most intervals overlap, and the sorted
ends of all intervals tell where that is.
"""

from math import inf

import torch
from torch import Tensor

MOST = 50.0  # the widest of the released searches ends there
CLEAR = 0.1  # of its lower end: how far inside a stretch alpha stands


class Margins:
    """By how much pictures are right or wrong at alpha = 0, in the form that `ends` reads.

    With m = Z_y - Z_c and s = A_y - A_c, label y beats rival c where m + alpha s > 0. Equal logits
    go to the class that comes first, as argmax has it, so a vanishing m is replaced by a tiny one.
    """

    def __init__(self, zero_shot: Tensor, labels: Tensor) -> None:
        """Zero-shot logits Z [.., n, C] and labels [.., n]."""
        self.labels = labels.unsqueeze(-1)  # [.., n, 1]
        margin = zero_shot.gather(-1, self.labels) - zero_shot  # m [.., n, C]
        comes_first = self.labels <= torch.arange(zero_shot.shape[-1], device=labels.device)
        sign = 2 * comes_first.to(margin.dtype) - 1
        margin = torch.where(margin == 0, sign * _tiny(margin), margin)
        beaten = margin > 0
        self.right = beaten.all(-1)  # [.., n], by zero-shot
        # Zeros and infinities leave the other rivals out of a minimum without a branch.
        self.over_beaten = torch.where(beaten, 1 / margin, 0.0)
        self.over_ahead = torch.where(beaten, 0.0, -1 / margin)
        self.but_beaten = torch.zeros_like(margin).masked_fill_(beaten, inf)

    def ends(self, votes: Tensor) -> tuple[Tensor, Tensor]:
        """The open interval of alpha in which each picture is right; none where lower >= upper.

        Args:
            votes: A [.., n, C], with any leading axes before those of Z.

        Returns:
            Lower and upper end [.., n], infinite where no rival sets one.
        """
        gain = votes.gather(-1, self.labels.expand(*votes.shape[:-1], 1)) - votes  # s
        # A beaten rival stays beaten while alpha s / m > -1; y itself counts as one with s = 0.
        ratio = gain * self.over_beaten
        lower = -1 / ratio.amax(-1).abs_()
        upper = 1 / ratio.amin(-1).abs_()
        # A rival that is ahead falls behind where alpha s / |m| > 1: on one side of 0 alone.
        least = torch.addcmul(self.but_beaten, gain, self.over_ahead, out=ratio).amin(-1)
        negated = torch.addcmul(self.but_beaten, gain, self.over_ahead, value=-1, out=ratio)
        most = -negated.amin(-1)
        above = least > 0
        lower = torch.where(self.right | ~above, lower, 1 / least)
        upper = torch.where(self.right | above, upper, torch.where(most < 0, 1 / most, -inf))
        for end in (lower, upper):
            end.masked_fill_(end.abs() < _tiny(end) ** 0.5, 0.0)  # that of a replaced m
        return lower, upper


def or_zero(
    alpha: Tensor, hits: Tensor, zero_shot: Tensor, labels: Tensor
) -> tuple[Tensor, Tensor]:
    """Alpha 0 where it is as good: that single point, at which exact ties fall to argmax."""
    plain = (zero_shot.argmax(-1) == labels).sum(-1).expand(hits.shape)
    return torch.where(plain >= hits, 0, alpha), torch.maximum(plain, hits)


def most_overlap(lower: Tensor, upper: Tensor) -> tuple[Tensor, Tensor]:
    """An alpha [..] in (0, MOST) inside most of the open intervals [.., n], and inside how many.

    Of equally good stretches the one nearest to 0 is taken, and in it a point near its lower end,
    for the end itself is a tie of two classes. A stretch too narrow for a float to stand clear of
    both its ends is passed over; where no interval reaches the range, alpha is `MOST` and hits 0.
    """
    n, number = lower.shape[-1], torch.finfo(lower.dtype)
    lower, upper = lower.clamp_min(0), upper.clamp_max(MOST)
    never = lower >= upper
    ends = torch.cat([upper.masked_fill(never, inf), lower.masked_fill(never, inf)], -1)
    ends, order = ends.sort(dim=-1, stable=True)  # at equal ends one stops, then one starts
    inside = torch.where(order < n, -1, 1).cumsum(-1)  # [.., 2n], right of each end
    right = torch.nn.functional.pad(ends[..., 1:], (0, 1), value=inf).clamp_max(MOST)
    left = ends.clamp_max(MOST)
    inside.masked_fill_(~(right - left > 8 * number.eps * left), 0)
    hits, place = inside.max(-1, keepdim=True)  # the first of equals
    return _near_the_end(left.gather(-1, place), right.gather(-1, place)).squeeze(-1), hits.squeeze(
        -1
    )


def _near_the_end(left: Tensor, right: Tensor) -> Tensor:
    clear = (CLEAR * left).clamp_min(CLEAR**2)
    return left + torch.minimum(clear, (right - left) / 2)


def _tiny(x: Tensor) -> float:
    """What stands for 0 where a sign is needed: its inverse is finite, times any vote too."""
    return float(torch.finfo(x.dtype).tiny ** 0.5)
