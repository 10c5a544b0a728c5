"""Text and pictures that look at each other (2412.11375).

Prompts are weighed by how well they fit the class's pictures, and are rows beside these in a
Gaussian of each class.
"""

import torch
from torch import Tensor

from cacheclip.heads.classes import class_sums
from cacheclip.heads.gaussian import discriminant
from cacheclip.task import Task, unit

# What the Gaussian weighs, from zero-shot outwards: 100 over 1e4 to 1e-4, those that text weighs in
# the released search.
ALPHAS = (0.0, 0.01, 0.1, 1.0, 10.0, 100.0, 1e3, 1e4, 1e5, 1e6)


def guided(task: Task, gamma: Tensor, share: float) -> dict[str, Tensor]:
    """The two heads that `heads.gaussian.beside_text` reads.

    Args:
        task: it has `all:per-prompt`; all of a picture's views are rows of the Gaussian.
        gamma: [V], how much the prompts that fit better count.
        share: prompts of a class that become rows, over how many prompts it has.
    """
    prompts = own_prompts(task.text["all:per-prompt"])  # [C, P, D]
    fit = fits(task.mean_of_views(), task.labels, prompts)  # [V, C, P]
    rows, classes = prompt_rows(prompts, fit, max(1, round(share * prompts.shape[1])))
    views = task.flat()
    x = torch.cat([views.support()["image"], rows], 1)
    labels = torch.cat([views.labels, classes], 1)
    weight, bias = discriminant(x, labels, task.n_classes)
    text = guided_text(prompts, fit, gamma)
    return {
        "text": text,
        "weight": weight,
        "bias": bias,
        "logit_scale": text.new_full((len(text),), task.logit_scale),
    }


def own_prompts(per_prompt: Tensor) -> Tensor:
    """The first P unit prompts of each class [C, P, D], P being how many every class has.

    Args:
        per_prompt: [C, T, D], rows of zeros wherever a class has no prompt.
    """
    there = (per_prompt != 0).any(-1)  # [C, T]
    first = there.int().argsort(dim=1, descending=True, stable=True)[:, : int(there.sum(1).min())]
    return unit(per_prompt.gather(1, first.unsqueeze(-1).expand(-1, -1, per_prompt.shape[-1])))


def fits(keys: Tensor, labels: Tensor, prompts: Tensor) -> Tensor:
    """The cosine of each prompt with the mean key of its class, [V, C, P]; 0 without any key.

    Args:
        keys: [V, N, D] unit rows.
        labels: [V, N] int64.
        prompts: [C, P, D] unit rows.
    """
    sums = class_sums(keys, labels, len(prompts))
    return torch.einsum("vcd,cpd->vcp", unit(sums), prompts)


def guided_text(prompts: Tensor, fit: Tensor, gamma: Tensor) -> Tensor:
    """Unit class text [V, C, D]: prompts weighed by softmax_p(gamma m_c / |m_c|), m the fit."""
    weights = (gamma[:, None, None] * unit(fit)).softmax(-1)
    return unit(torch.einsum("vcp,cpd->vcd", weights, prompts))


def prompt_rows(prompts: Tensor, fit: Tensor, n: int) -> tuple[Tensor, Tensor]:
    """The n prompts of each class that fit best, times their fit: rows [V, C n, D] and labels.

    Beyond the last prompt they are repeated from the first.
    """
    V, C, P = fit.shape
    order = fit.argsort(dim=-1, descending=True, stable=True)
    order = order[..., torch.arange(n, device=fit.device) % P]  # [V, C, n]
    chosen = prompts[torch.arange(C, device=fit.device)[:, None], order]  # [V, C, n, D]
    rows = chosen * fit.gather(-1, order).unsqueeze(-1)
    labels = torch.arange(C, device=fit.device).repeat_interleave(n).expand(V, -1)
    return rows.flatten(1, 2), labels
