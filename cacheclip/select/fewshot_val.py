"""`fewshot-val`: the best of the grid on min(K, 4) validation images a class."""

from cacheclip.methods.base import Method
from cacheclip.select.base import Choices, Policy


class FewshotVal(Policy):
    """The method's grid, where the user's values replace those of the settings that they name."""

    name = "fewshot-val"
    selects = True

    def axes(self, method: type[Method], choices: Choices) -> Choices:
        """The grid and the user's values."""
        return {**method.grid, **choices}


POLICY = FewshotVal()
