"""The command line: verbs, exit codes, and errors as one line."""

from __future__ import annotations

import sys

import typer

from tutelage.cli import accuracy, collect, demos, doctor, init, replay, report, student, traces
from tutelage.version import __version__

EXIT_CODES = """\
Exit codes: 0 done; 1 an error, said in one line; 2 wrong usage or configuration;
3 doctor found a problem; 4 stopped at a spending cap; 130 interrupted, nothing lost.
"""

app = typer.Typer(
    name="tutelage",
    help="A cheap student acts for an expensive teacher, at the teacher's success rate.",
    epilog=EXIT_CODES,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command("init")(init.init)
app.command("doctor")(doctor.doctor)
app.command("collect")(collect.collect)
app.command("replay")(replay.replay)
app.command("report")(report.report)
app.command("accuracy")(accuracy.accuracy)
app.add_typer(demos.app, name="demos")
app.add_typer(traces.app, name="traces")
app.add_typer(student.app, name="student")


@app.callback(invoke_without_command=True)
def version(
    show: bool = typer.Option(False, "--version", help="Print the version and exit."),
) -> None:
    """A cheap student acts for an expensive teacher, at the teacher's success rate."""
    if show:
        typer.echo(__version__)
        raise typer.Exit


def main() -> None:
    """Runs the command line; an expected error is one line on stderr, never a traceback."""
    from tutelage.runtime.errors import ConfigError, TutelageError

    try:
        app()
    except ConfigError as error:
        typer.echo(f"error: {error}", err=True)
        sys.exit(2)
    except TutelageError as error:
        typer.echo(f"error: {error}", err=True)
        sys.exit(1)
    except KeyboardInterrupt:
        typer.echo("interrupted", err=True)
        sys.exit(130)
    except BrokenPipeError:
        # The reader of a pipe has left, as `| head` does.
        sys.stderr.close()
        sys.exit(0)


if __name__ == "__main__":
    main()
