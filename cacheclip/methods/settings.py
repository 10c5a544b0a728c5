"""What a method's settings are: one line each, and the lines that many methods have."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from math import inf
from typing import Literal

from cacheclip.kernels.weight_grad_update import MOMENTS

Value = float | int | str
Settings = dict[str, Value]

SEARCH = "search"  # the value of a setting that `Method.search` finds

LOGIT_SCALE, TEXT_NORM = 100.0, 10.0  # of the encoders that published constants are for
RAW_NORMS = 3.0, 30.0  # of raw text: within them constants stay as they were published

STEP_WORDS = {
    "optimizer": tuple(MOMENTS),
    "schedule": ("constant", "cosine", "dassl", "warm-cosine"),
}
PRECISIONS = ("auto", "fp32", "bf16")


def norm_counts(text_norm: float) -> bool:
    """Whether class text is of another kind than towers give it, such as unit rows."""
    return not RAW_NORMS[0] <= text_norm <= RAW_NORMS[1]


@dataclass(frozen=True)
class Setting:
    """One setting of a method: all that is said of it, in one line.

    Attributes:
        default: the constant.
        low: least number that it may be.
        high: greatest.
        grid: what a selecting policy tries, from the nearest to zero-shot outwards. It holds the
            constant, and zero-shot where the method has it.
        words: what it may be: all values where the default is a word, and beside numbers what a
            number may be instead, `search` or `learned`; then the default is what the run starts
            from. Variants of the same word share a stack.
        shape: whether its numbers change shapes or steps: variants that share it share a stack, the
            others' numbers are handed over as one [V] tensor.
        power: constant and grid are those of logit scale s = 100, and become (s / 100)^power times
            that; see `Method.rescaled`.
        zero_shot: which end of it leads to zero-shot, or holds back most.
        search: least and greatest number that a search looks at.
        unsaid: the default holds unasked and stands in no settings, so that a row that does without
            it is the row it always was.
        elsewhere: what the paper calls it where that is another name, and after a semicolon its
            released code.
    """

    default: Value
    low: float = -inf
    high: float = inf
    grid: tuple[Value, ...] = ()
    words: tuple[str, ...] = ()
    shape: bool = False
    power: float = 0.0
    zero_shot: Literal["low", "high"] | None = None
    search: tuple[float, float] | None = None
    unsaid: bool = False
    elsewhere: str = ""

    @property
    def static(self) -> bool:
        """Whether all of its values are the constructor's: shapes, and words by themselves."""
        return self.shape or isinstance(self.default, str)

    def allows(self, value: object) -> bool:
        """Whether it may be that."""
        if isinstance(value, str):
            return value in self.words
        if isinstance(self.default, str) or type(value) not in (int, type(self.default)):
            return False
        return -inf < value < inf and self.low <= value <= self.high  # type: ignore[operator]

    def ordered(self, values: tuple[Value, ...]) -> tuple[Value, ...]:
        """Values from the nearest to zero-shot outwards: numbers, then words as they are given."""
        numbers = sorted(
            (v for v in values if not isinstance(v, str)), reverse=self.zero_shot == "high"
        )
        return (*numbers, *(v for v in values if isinstance(v, str)))


def from_zero(default: float, tried: tuple[float, float], elsewhere: str = "") -> Setting:
    """A weight from 0, zero-shot, that a search finds under a selecting policy.

    Args:
        default: the constant.
        tried: least and greatest number that the search looks at.
        elsewhere: what paper and code call it.
    """
    words = (SEARCH,)
    return Setting(
        default,
        0.0,
        1e6,
        grid=words,
        words=words,
        zero_shot="low",
        search=tried,
        elsewhere=elsewhere,
    )


def steps(**own: Value) -> dict[str, Setting]:
    """The settings that all trained methods have, with a recipe's values.

    The power of `lr` is that under Adam; under SGD it counts twice. With `stop=search` the epoch
    counts after which the held-out pictures were likeliest, instead of the last.
    """
    table = {
        "lr": Setting(1e-3, low=0.0, power=-1.0),
        "epochs": Setting(100, low=1, high=10**6, shape=True),
        "batch_size": Setting(256, low=1, high=10**9, shape=True),
        "optimizer": Setting("adamw", words=STEP_WORDS["optimizer"]),
        "weight_decay": Setting(0.0, low=0.0),
        "schedule": Setting("cosine", words=STEP_WORDS["schedule"]),
        "stop": Setting("last", words=("last", SEARCH), unsaid=True),
    }
    return table | {name: replace(table[name], default=value) for name, value in own.items()}


# How unequal classes count (`heads/class_balance.py`); the engine acts on both.
CLASS_WEIGHT = {"class_weight": Setting("none", words=("none", "balanced"), unsaid=True)}
PRIOR = {"prior": Setting("support", words=("support", "uniform"), unsaid=True)}

# How many views of each support picture are read: the picture itself, and crops of half of it or
# more, as Tip-Adapter's. Unasked it is the picture alone, since a store of views has to be made.
VIEWS = {"views": Setting(1, 1, 1000, shape=True, unsaid=True)}

# How strongly a map is held back by what it was, as ProLIP has it: 1 / K for K shots.
PULL = {
    "strength": Setting(
        1.0,
        0.0,
        1e6,
        grid=(1.0, 0.1, 0.01),
        power=2.0,
        zero_shot="high",
        elsewhere="lambda; lambda_v",
    )
}


def pull_by_shots(shots: int) -> Settings:
    """The constant of `PULL`."""
    return {name: float(f"{1 / max(1, shots):.4g}") for name in PULL}


def wrong_in(table: Mapping[str, Setting], named: Collection[str]) -> str | None:
    """What is wrong in a method's table; None where nothing is.

    Args:
        table: setting -> what is said of it.
        named: the settings that its class names elsewhere.
    """
    if unknown := set(named) - set(table):
        return f"no setting {', '.join(sorted(unknown))}"
    for name, own in table.items():
        if not all(map(own.allows, (own.default, *own.grid))):
            return f"{name} may not be its default, or a value of its grid"
        if own.shape and not (own.words or -inf < own.low <= own.high < inf):
            return f"{name} changes shapes, and has no least or no greatest value"
        if own.unsaid and own.words and own.default != own.words[0]:
            return f"{name} goes unsaid, and its first word is not its default"
    return None
