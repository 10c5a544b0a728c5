"""`cacheclip bench`: how fast it is here, against honest baselines and the machine's ceiling."""

import shlex
import sys
from pathlib import Path

import click

from cacheclip.bench.shapes import DEFAULT_SUITES, SHAPES, SUITES
from cacheclip.cli import options, output


@click.command("bench")
@click.argument("suites", metavar="[SUITE]...", nargs=-1, type=click.Choice(SUITES.names()))
@click.option(
    "--shape", type=click.Choice(list(SHAPES)), default="food101-vitb32", show_default=True
)
@click.option(
    "--variants", type=click.IntRange(1), default=16, show_default=True, help="V, run together."
)
@click.option(
    "--device", type=click.Choice(["cpu", "cuda"]), help="[default: the GPU where there is one]"
)
@click.option(
    "--json", "record_file", type=options.FilePath(dir_okay=False), metavar="FILE",
    help="Write the whole record, machine and ceilings included.",
)  # fmt: skip
@click.option(
    "--plot", "plot_file", type=options.FilePath(dir_okay=False), metavar="FILE",
    help="Draw the ratios (needs matplotlib: pip install 'cacheclip[plot]').",
)  # fmt: skip
def command(
    suites: tuple[str, ...],
    shape: str,
    variants: int,
    device: str | None,
    record_file: Path | None,
    plot_file: Path | None,
) -> None:
    """Time SUITEs against their baselines, interleaved, outputs compared before.

    \b
    kernels   each op, forward and backward, against autograd
    train     variants of each fused method together, against an eager loop over them
    search    linear probe against scikit-learn, Tip-Adapter's search against grids, answers of
              closed forms against their products
    store     reading and writing features, against h5py and NumPy
    extract   the clipart pictures through nano, against the bare encoder
    startup   commands against a bare interpreter

    Without a SUITE: train, store and startup, a few minutes on two cores. A ratio is the
    baseline's time over ours; the machine should do nothing else meanwhile.

    Example: cacheclip bench train --shape food101-vitb32 --json record.json
    """  # noqa: D301 - \b is click's mark of a paragraph that stays as it is
    from cacheclip.bench import plot
    from cacheclip.bench.harness import cells
    from cacheclip.bench.record import find_device, is_record, run
    from cacheclip.files.disk import publish_json
    from cacheclip.files.places import refuse_place

    if record_file:
        refuse_place(record_file, "--json", (".json",), is_record)
    if plot_file:
        refuse_place(plot_file, "--plot", plot.FORMATS, plot.is_plot)
        plot.require(plot_file)
    typed = shlex.join(["cacheclip", *sys.argv[1:]])
    with output.progress() as advance:
        record = run(suites or DEFAULT_SUITES, shape, variants, find_device(device), typed, advance)
    output.talk(f"{record.machine['device']}, {record.machine['threads']} threads")
    output.table(*cells(record.results))
    if record_file:
        publish_json(record_file, record.as_json(), option="--json")
        output.talk(f"record: {record_file}")
    if plot_file:
        plot.draw(record, plot_file)
        output.talk(f"plot: {plot_file}")
