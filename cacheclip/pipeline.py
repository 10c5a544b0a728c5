"""What spans both stages: the demo."""

from collections.abc import Callable
from functools import partial

from cacheclip.extraction.plan import ExtractRequest
from cacheclip.extraction.run import run as extract
from cacheclip.store.home import Home
from cacheclip.study.compare import DEFAULT_METHODS, Comparison, Request
from cacheclip.study.table import Table, summary

DEMO_SHOTS = (1, 4, 16)
DEMO_SEEDS = (1, 2, 3)
DEMO_COMPARE = (
    f"cacheclip compare --dataset clipart --shots {','.join(map(str, DEMO_SHOTS))} "
    f"--seeds {len(DEMO_SEEDS)}"
)


def demo(
    home: Home, progress: Callable[[str, float, float], None], talk: Callable[[str], None]
) -> Table:
    """Extract `clipart` with `nano`, compare the methods, and give the table.

    Args:
        home: where stores and results go; what is there already is not made again.
        progress: called with what is being done, how much is done, and how much there is.
        talk: called with a line for the user.
    """
    report = extract(ExtractRequest(dataset="clipart"), home, progress)
    for notice in report.notices:
        talk(notice)
    talk(f"extract: {report.encoded} pictures encoded, {report.reused} were there")
    request = Request(DEFAULT_METHODS, DEMO_SHOTS, DEMO_SEEDS)
    comparison = Comparison(request, home.find("clipart", report.model), home)
    talk(f"compare: {comparison.plan}")
    for _ in comparison.run(partial(progress, "runs"), talk):
        pass
    return summary(comparison.rows)
