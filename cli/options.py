"""Options that several commands share, each defined once."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]

home: Decorator = click.option(
    "--home",
    type=click.Path(path_type=Path),
    help="Folder of features, results and bundles. [default: $CACHECLIP_HOME, else per user]",
)
as_json: Decorator = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
model: Decorator = click.option("--model", metavar="NAME", help="open_clip model name.")
pretrained: Decorator = click.option(
    "--pretrained", metavar="TAG|FILE", help="Its weights: a tag of open_clip, or a file."
)
select: Decorator = click.option(
    "--select",
    metavar="POLICY",
    help="How settings are chosen: fixed (constants) or fewshot-val (min(K, 4) validation images "
    "a class). [default: fewshot-val if val has every class, else fixed]",
)
set_: Decorator = click.option(
    "--set",
    "set_",
    metavar="NAME=VALUE[,VALUE]",
    multiple=True,
    help="A setting of a method, METHOD.NAME=VALUE where several methods have it. Repeatable.",
)


class Numbers(click.ParamType):
    """Whole numbers of 1 or more, with commas between them."""

    name = "N[,N]"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int, ...]:
        """The numbers, each once."""
        if isinstance(value, tuple):
            return value
        try:
            numbers = tuple(dict.fromkeys(int(part) for part in str(value).split(",")))
        except ValueError:
            self.fail(f"{value!r} is not whole numbers with commas between them", param, ctx)
        if min(numbers) < 1:
            self.fail(f"{min(numbers)} is less than 1", param, ctx)
        return numbers


class Names(click.ParamType):
    """Names, with commas between them."""

    name = "NAME[,NAME]"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, ...]:
        """The names, each once."""
        if isinstance(value, tuple):
            return value
        names = tuple(dict.fromkeys(part.strip() for part in str(value).split(",") if part.strip()))
        if not names:
            self.fail("no name given", param, ctx)
        return names
