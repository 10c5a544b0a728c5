"""`cacheclip doctor`: what the machine has and what to do about what is missing."""

from pathlib import Path

import click

from cacheclip.cli import options, output


@click.command("doctor")
@options.home
@options.as_json
def command(home: Path | None, as_json: bool) -> None:
    """Say what this machine has for the work, and what to do about what it lacks.

    Example: cacheclip doctor
    """
    from cacheclip.doctor import examine
    from cacheclip.store.home import Home

    findings = list(examine(Home.resolve(home)))
    if as_json:
        output.data([finding.as_json() for finding in findings])
        return
    for finding in findings:
        output.say(f"{'ok' if finding.ok else '--':3}{finding.name:16} {finding.seen}")
        if finding.advice:
            output.say(f"{'':19} {finding.advice}")
