"""`full-val`: the grid against the constants on all validation images, whatever the shots."""

from cacheclip.select.base import Policy


class FullVal(Policy):
    """For data of one's own: labels that are there should not lie idle."""

    name = "full-val"
    held = "all"


POLICY = FullVal()
