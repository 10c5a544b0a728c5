"""`fixed`: constants set in advance; several values of a setting are one row each."""

from cacheclip.methods.base import Method, Settings
from cacheclip.select.base import Choices, Policy, combinations


class Fixed(Policy):
    """Each method's constants for these shots, with the settings that the user gave."""

    name = "fixed"
    selects = False

    def candidates(
        self,
        method: type[Method],
        choices: Choices,
        shots: int,
        logit_scale: float,
        recipe: str | None = None,
    ) -> list[Settings]:
        """One combination a row."""
        return combinations(method, choices, shots, logit_scale, recipe)


POLICY = Fixed()
