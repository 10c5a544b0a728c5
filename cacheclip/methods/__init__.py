"""The methods, one file and one class each; `base` holds the contract and the look-up."""

from cacheclip.registry import Registry

METHODS = Registry(
    "cacheclip.methods",
    "method",
    besides=frozenset({"base", "catalogue", "settings"}),
    see="cacheclip methods",
)
names = METHODS.names

DEFAULT = "kernel-logistic"  # of `fit`: docs/default.md says why
DEFAULT_WITHOUT_TEXT = "linear-probe"
