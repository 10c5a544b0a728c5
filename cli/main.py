"""The `cacheclip` group, and the one place where an error becomes an exit code."""

import os
import signal
import sys
from collections import Counter

import click

from cacheclip.cli import output
from cacheclip.errors import CacheclipError, instead
from cacheclip.files import refusals
from cacheclip.registry import Registry
from cacheclip.version import __version__

SECTIONS = {
    "Work": ("extract", "fit", "compare", "predict", "transfer", "detect"),
    "Results": ("stats", "honesty", "row"),
    "Catalogue": ("methods",),
    "Exchange": ("import",),
    "Cache": ("ls", "info", "rm", "prune"),
    "Machine": ("doctor", "demo", "bench"),
}
COMMANDS = Registry(
    "cacheclip.cli", "command", listed=[name for names in SECTIONS.values() for name in names]
)
INTERRUPTED = 130  # 128 + SIGINT, as shells count
# Commands that go on where they were interrupted, and those that lose what they were doing.
GOES_ON = ("extract", "compare", "import", "demo")
BEGINS_ANEW = ("fit", "predict", "transfer", "detect", "bench")


class Commands(click.Group):
    """Loads a command's file when it is asked for, so that no command pays for another."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """All commands, section by section."""
        return COMMANDS.names()

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of that name, from the file of that name."""
        if cmd_name not in self.list_commands(ctx):
            return None
        command: click.Command = COMMANDS.file(cmd_name, where="cacheclip").command
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """The command asked for and its arguments.

        An unknown one is answered with those like it, and an option that takes one value is refused
        where it stands twice: the last would win without a word.
        """
        if self.get_command(ctx, args[0]) is None and not args[0].startswith("-"):
            ctx.fail(
                f"No such command {args[0]!r}: "
                + instead(args[0], self.list_commands(ctx), see="cacheclip --help")
            )
        name, command, rest = super().resolve_command(ctx, args)
        if command is not None:
            own = click.Context(command, info_name=name, parent=ctx)
            _refuse_repeated(command.make_parser(own).parse_args(list(rest))[2], own)
        return name, command, rest

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The help page's lists."""
        for section, names in SECTIONS.items():
            commands = [(name, self.get_command(ctx, name)) for name in names]
            with formatter.section(section):
                formatter.write_dl(
                    [(name, c.get_short_help_str(90)) for name, c in commands if c is not None]
                )


def _refuse_repeated(given: list[click.Parameter], ctx: click.Context) -> None:
    """Refuse an option that takes one value and was given several, of which the last would win."""
    for option, times in Counter(given).items():
        single = isinstance(option, click.Option) and not (option.multiple or option.is_flag)
        if single and times > 1:
            listed = "; several go in one, with commas" if "[," in (option.metavar or "") else ""
            what = f"{option.opts[0]} takes one value and was given {times} times{listed}"
            raise click.UsageError(what, ctx)


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
    _open_closed_streams()
    refusals.tell = output.talk
    try:
        code = _run()
    except click.ClickException as error:
        output.show(error)
        _as_json(error.format_message(), *_asked_of(error), error.exit_code)
        code = error.exit_code
    except CacheclipError as error:
        output.talk(*f"{error}".splitlines())
        _as_json(error.what, error.where, error.fix, error.exit_code)
        code = error.exit_code
    except (KeyboardInterrupt, click.Abort) as stop:
        said = str(stop.__cause__ or stop)
        output.talk(said or f"interrupted{_after_interrupt(_command_name())}")
        code = INTERRUPTED
    sys.exit(code)


def _run() -> int:
    """Run the command that the arguments name, and print all of its answer."""
    try:
        code = cacheclip.main(standalone_mode=False)
    except SystemExit as stop:  # part of the answer is that all of it went wrong
        output.settle()
        code = stop.code
    except OSError as error:  # of help pages, which click prints, or of the machine; no bug of ours
        if error.filename is not None or output.takes_more():
            raise refusals.escaped(error) from error
        output.refuse(error)
        code = None
    output.settle()
    return code if isinstance(code, int) else 0


def _open_closed_streams() -> None:
    """Lead streams that were closed nowhere, or the next file opened would take their numbers."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode))  # noqa: PTH123, SIM115  (until the end)


def _command_name() -> str:
    """The command that was asked for, which comes before all options but those of the group."""
    return next((word for word in sys.argv[1:] if not word.startswith("-")), "")


def _as_json(what: str, where: str, fix: str, exit_code: int) -> None:
    """Print an error for machines too, where a command that prints JSON was asked to."""
    command = cacheclip.get_command(click.Context(cacheclip), _command_name())
    prints_json = command and any(option.name == "as_json" for option in command.params)
    if prints_json and "--json" in sys.argv[1:]:
        error = {"what": what, "where": where, "fix": fix, "exit_code": exit_code}
        output.data({"error": error})


def _asked_of(error: click.ClickException) -> tuple[str, str]:
    """Where a usage error is, and the command that says what is right."""
    path = error.ctx.command_path if isinstance(error, click.UsageError) and error.ctx else ""
    path = path or "cacheclip"
    return path, f"{path} --help"


def _after_interrupt(command: str) -> str:
    if command in GOES_ON:
        return "; what is finished is kept, the same command goes on"
    return "; nothing was kept, the same command begins anew" if command in BEGINS_ANEW else ""
