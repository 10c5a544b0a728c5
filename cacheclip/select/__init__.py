"""How a run's settings are chosen, one policy a file; `base` holds the contract and the look-up."""

from cacheclip.registry import Registry

POLICIES = Registry("cacheclip.select", "selection policy", besides=frozenset({"base"}))
names = POLICIES.names
CONSTANT = ("fixed", "fixed-from-imagenet")  # nothing competes: settings that differ are a row each
