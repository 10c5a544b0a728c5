"""The class of what is nothing: one direction, learned beside classes that stay as they are."""

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import expit
from torch import Tensor

PENALTY = 1e-3  # of the direction's squared length in units of the logit scale


class Background:
    """A logit s (x b) + c beside those of the classes (the background embedding of 2104.13921).

    Classes alone must share all of the probability, so that grass is a sheep. With the logits z of
    C classes, p(nothing | x) is the sigmoid of s x b + c - log sum exp z. The classes stand; b and
    c minimise the mean cross-entropy of what is known, plus a penalty on b. That is convex: the
    numbers depend on no start and no order. The paper learns the embedding in the steps of its
    detector and takes all that is not annotated for nothing, novel things among it; here it is
    nothing by as much as its objectness says.

    Attributes:
        direction: [D].
        offset: c.
        scale: s, the encoder's exp(logit_scale).
    """

    def __init__(self, direction: Tensor, offset: float, scale: float) -> None:
        self.direction = direction
        self.offset = offset
        self.scale = scale

    def probabilities(self, logits: Tensor, image: Tensor) -> Tensor:
        """Of the C classes, [n, C]: together they are what is left beside nothing.

        Args:
            logits: [n, C].
            image: [n, D] unit rows.
        """
        own = self.scale * image @ self.direction + self.offset
        return torch.cat([logits, own[:, None]], 1).softmax(1)[:, :-1]


def learn(logits: Tensor, image: Tensor, nothing: NDArray[np.floating], scale: float) -> Background:
    """The background of classes that are fitted.

    Args:
        logits: [n, C] of the classes.
        image: [n, D] unit rows.
        nothing: [n], how likely each is nothing: 0 of a thing.
        scale: s.
    """
    x = image.double().cpu().numpy()
    classes = logits.double().logsumexp(1).cpu().numpy()  # [n]
    wanted = np.asarray(nothing, np.float64)
    pull = PENALTY / scale**2

    def objective(w: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        odds = x @ w[:-1] + w[-1] - classes  # [n], the log odds of nothing
        loss = (np.logaddexp(0, odds) - wanted * odds).mean() + 0.5 * pull * (w[:-1] @ w[:-1])
        slope = (expit(odds) - wanted) / len(x)
        return float(loss), np.append(x.T @ slope + pull * w[:-1], slope.sum())

    start = np.append(np.zeros(x.shape[1]), classes.mean())
    found = minimize(objective, start, jac=True, method="L-BFGS-B", options={"maxiter": 1000})
    direction = torch.from_numpy(found.x[:-1] / scale).to(image)
    return Background(direction, float(found.x[-1]), scale)
