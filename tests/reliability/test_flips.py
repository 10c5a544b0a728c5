"""Fifty flipped bits in each kind of file, and each file cut, emptied, zeroed and deleted."""

from pathlib import Path

import pytest

from tests.reliability.flips import KINDS, Kind, trials


@pytest.mark.parametrize("kind", KINDS, ids=[kind.name for kind in KINDS])
def test_damage_is_found_and_mended_or_harmless(kind: Kind, tmp_path: Path) -> None:
    done = list(trials(kind, tmp_path, flips=50, fixes=2))
    faults = [trial for trial in done if trial.came not in ("found", "harmless")]
    assert not faults, faults[0]
