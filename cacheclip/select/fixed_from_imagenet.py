"""`fixed-from-imagenet`: settings that a paper found on ImageNet and carries over to other sets."""

from cacheclip.methods.base import TEXT_NORM, Method, Settings
from cacheclip.select.base import Choices
from cacheclip.select.fixed import Fixed


class FixedFromImagenet(Fixed):
    """`Method.transferred` of the most shots that are no more than these, else the constants."""

    name = "fixed-from-imagenet"

    def knows(self, method: type[Method]) -> bool:
        """Few authors publish such settings; where nothing is learned none are needed."""
        return bool(method.transferred) or method.learns == "nothing"

    def candidates(
        self,
        method: type[Method],
        choices: Choices,
        shots: int,
        logit_scale: float,
        recipe: str | None = None,
        text_norm: float = TEXT_NORM,
    ) -> list[Settings]:
        """What is published, with the settings that the user gave."""
        known = method.transferred
        most = max((k for k in known if k <= shots), default=min(known))
        own = {name: value for name, value in known[most].items() if name not in choices}
        constants = super().candidates(method, choices, shots, logit_scale, recipe, text_norm)
        return [method.rescaled(c | own, set(own), logit_scale, text_norm) for c in constants]


POLICY = FixedFromImagenet()
