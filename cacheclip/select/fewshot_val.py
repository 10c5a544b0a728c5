"""`fewshot-val`: the best of the grid on min(K, 4) validation images a class."""

from cacheclip.methods.base import Method, Settings
from cacheclip.select.base import Choices, Policy, combinations


class FewshotVal(Policy):
    """The method's grid, where the user's values replace those of the settings that they name."""

    name = "fewshot-val"
    selects = True

    def candidates(
        self,
        method: type[Method],
        choices: Choices,
        shots: int,
        logit_scale: float,
        recipe: str | None = None,
    ) -> list[Settings]:
        """Every combination of the grid."""
        axes = dict(method.grid) | dict(choices)
        return combinations(method, axes, shots, logit_scale, recipe)


POLICY = FewshotVal()
