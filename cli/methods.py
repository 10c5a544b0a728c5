"""`cacheclip methods`: what there is to fit, and the settings of each."""

import click

from cacheclip.cli import options, output


@click.command("methods")
@click.argument("names", metavar="[NAME]...", nargs=-1)
@options.as_json
def command(names: tuple[str, ...], as_json: bool) -> None:
    """List the methods, or show NAMEs in full: text, settings with default and range, recipes.

    A setting is given as --set NAME=VALUE to fit and compare; the grid is what they try unasked
    where validation images choose.

    Example: cacheclip methods clip-adapter
    """
    from cacheclip.methods import catalogue

    if not names:
        found = catalogue.listed()
        if as_json:
            output.data([entry.as_json() for entry in found])
            return
        headers = ["method", "fit by", "answers", "reads", "paper"]
        output.table(headers, [entry.as_cells() for entry in found])
        output.talk(f"next: cacheclip methods {found[0].name}")
        return
    described = [catalogue.described(name) for name in names]
    if as_json:
        output.data([method.as_json() for method in described])
        return
    for method in described:
        kind = f"{method.paper}, {method.fitted}, {method.setting}"
        output.say(f"{method.name} ({kind})", "", *method.text, "")
        if method.settings:
            output.table(["setting", "default", "may be", "grid"], method.as_cells())
        if method.settings or method.recipes:
            output.say(*method.recipes_told, "")
