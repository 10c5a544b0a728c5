"""`fewshot-val`: the grid against the constants on min(K, 4) validation images a class."""

from cacheclip.select.base import Policy


class FewshotVal(Policy):
    """What the field's few-shot protocols allow: as many labels again as the support has."""

    name = "fewshot-val"
    held = "few"


POLICY = FewshotVal()
