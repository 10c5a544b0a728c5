"""Flipped bits in each kind of file, and each file cut, emptied, zeroed and deleted.

Of each kind 25 bits are flipped, and with `--all` fifty.
"""

from pathlib import Path

import pytest

from tests.reliability.flips import KINDS, WHOLE, Kind, trials


@pytest.mark.parametrize("kind", KINDS, ids=[kind.name for kind in KINDS])
def test_damage_is_found_and_mended_or_harmless(kind: Kind, tmp_path: Path, every: bool) -> None:
    done = list(trials(kind, tmp_path, flips=50 if every else 25, fixes=2))
    faults = [trial for trial in done if trial.came not in ("found", "harmless")]
    assert not faults, faults[0]


@pytest.mark.parametrize("kind", WHOLE, ids=[kind.name for kind in WHOLE])
def test_what_a_comparison_and_a_bundle_answer_outlasts_damage(kind: Kind, tmp_path: Path) -> None:
    done = list(trials(kind, tmp_path, flips=5, fixes=1))
    faults = [trial for trial in done if trial.came not in ("found", "harmless")]
    assert not faults, faults[0]
