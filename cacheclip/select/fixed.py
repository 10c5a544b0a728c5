"""`fixed`: constants set in advance; several values of a setting are one row each."""

from cacheclip.methods.base import Method
from cacheclip.select.base import Choices, Policy


class Fixed(Policy):
    """Each method's constants for these shots, with the settings that the user gave."""

    name = "fixed"
    held = "none"

    def axes(self, method: type[Method], choices: Choices) -> Choices:
        """The user's values alone."""
        return choices


POLICY = Fixed()
