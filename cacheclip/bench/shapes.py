"""The sizes that are timed. Nothing here loads torch."""

from dataclasses import dataclass

from cacheclip.registry import Registry

SUITES = Registry(
    "cacheclip.bench",
    "suite",
    listed=("kernels", "train", "search", "store", "extract", "startup"),
)
DEFAULT_SUITES = ("train", "store", "startup")  # what takes a few minutes on two cores


@dataclass(frozen=True)
class Shape:
    """A data set as an encoder leaves it.

    Attributes:
        name: data set and encoder.
        dim: D, the width of a feature.
        classes: C.
        shots: support pictures a class.
        test: rows that are scored.
        epochs: of a full run.
    """

    name: str
    dim: int
    classes: int
    shots: int
    test: int
    epochs: int = 200

    @property
    def hidden(self) -> int:
        """H, the hidden width of CLIP-Adapter."""
        return self.dim // 4

    @property
    def support(self) -> int:
        """N, all support pictures."""
        return self.shots * self.classes


SHAPES = {
    shape.name: shape
    for shape in (
        Shape("food101-vitb32", dim=512, classes=101, shots=16, test=30_300),
        Shape("imagenet-rn50", dim=1024, classes=1000, shots=16, test=50_000),
        Shape("imagenet-vitl14", dim=768, classes=1000, shots=16, test=50_000),
        Shape("clipart", dim=256, classes=20, shots=16, test=497),
    )
}
