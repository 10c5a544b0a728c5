"""`cacheclip methods`: what there is to fit, and the settings of each."""

import click

from cacheclip.cli import options, output


@click.command("methods")
@click.argument("names", metavar="[NAME]...", nargs=-1)
@options.as_json
def command(names: tuple[str, ...], as_json: bool) -> None:
    """List the methods, or show NAMEs in full: formula, source, what they need, settings, recipes.

    A setting is given as --set NAME=VALUE to fit and compare; what is tried unasked where
    validation pictures choose stands under "tried". C is the number of classes, N of support
    pictures, D the width of features, E their width before the projection, d that of the text
    tower.

    Example: cacheclip methods clip-adapter
    """
    from cacheclip.methods import catalogue

    if not names:
        found = catalogue.listed()
        if as_json:
            output.data([entry.as_json() for entry in found])
            return
        output.table(catalogue.LISTED, [entry.as_cells() for entry in found])
        output.talk(f"next: cacheclip methods {found[0].name}")
        return
    described = [catalogue.described(name) for name in names]
    if as_json:
        output.data([method.as_json() for method in described])
        return
    for method in described:
        kind = f"{method.paper}, {method.fitted}, {method.setting}"
        output.say(f"{method.name} ({kind})", "", *method.text, "", *method.needs, "")
        output.table(catalogue.SETTINGS, method.as_cells())
        output.say(*method.constants, *[""] * bool(method.settings))
