"""The `cacheclip` group, and the one place where an error becomes an exit code."""

import importlib
import os
import signal
import sys
from keyword import iskeyword

import click

from cacheclip import __version__
from cacheclip.errors import CacheclipError

SECTIONS = {
    "Work": ("extract", "fit", "compare", "predict"),
    "Exchange": ("import",),
    "Cache": ("ls", "info", "rm", "prune"),
    "Machine": ("doctor", "demo", "bench"),
}


class Commands(click.Group):
    """Loads a command's file when it is asked for, so that no command pays for another."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """All commands, section by section."""
        return [name for names in SECTIONS.values() for name in names]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of that name, from the file of that name; `import` is in `import_.py`."""
        if cmd_name not in self.list_commands(ctx):
            return None
        file = f"{cmd_name}_" if iskeyword(cmd_name) else cmd_name
        command: click.Command = importlib.import_module(f"cacheclip.cli.{file}").command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The help page's lists."""
        for section, names in SECTIONS.items():
            commands = [(name, self.get_command(ctx, name)) for name in names]
            with formatter.section(section):
                formatter.write_dl(
                    [(name, c.get_short_help_str(90)) for name, c in commands if c is not None]
                )


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="cacheclip")
def cacheclip() -> None:
    """Few-shot adaptation of CLIP on cached features: pay for the frozen encoders once.

    Stage one: cacheclip extract. Stage two, in seconds: cacheclip fit, cacheclip compare.
    Data go to stdout, talk to stderr; --json gives data for machines.
    """


def main() -> None:
    """Run a command; print a user's error in three lines and exit with its documented code."""
    # Read when torch loads: how long its threads spin before they sleep. Beside another program's
    # threads the usual count made a fit of 1.4 s take up to 35, this one up to 7.
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")
    if hasattr(signal, "SIGPIPE"):
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # `cacheclip ls | head` is no error
    try:
        cacheclip.main(standalone_mode=False)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except CacheclipError as error:
        click.echo(str(error), err=True)
        sys.exit(error.exit_code)
    except (KeyboardInterrupt, click.Abort) as stop:
        usual = "interrupted; what is finished is kept, the same command goes on"
        click.echo(str(stop.__cause__ or stop) or usual, err=True)
        sys.exit(130)
