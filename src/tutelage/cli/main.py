"""The command line: verbs, exit codes, and errors as one line."""

from __future__ import annotations

import sys
from typing import Any

import typer

from tutelage.cli import (
    accuracy,
    bench,
    calibrate,
    collect,
    demos,
    doctor,
    flywheel,
    init,
    keys,
    release,
    replay,
    report,
    serve,
    student,
    traces,
    train,
)
from tutelage.version import __version__

EXIT_CODES = """\
Exit codes: 0 done; 1 an error, said in one line; 2 wrong usage or configuration;
3 doctor found a problem; 4 stopped at a spending cap; 5 nothing could be certified;
130 interrupted, nothing lost.
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
app.command("serve")(serve.serve)
app.command("collect")(collect.collect)
app.command("replay")(replay.replay)
app.command("report")(report.report)
app.command("calibrate")(calibrate.calibrate)
app.command("accuracy")(accuracy.accuracy)
app.command("train")(train.train)
app.add_typer(bench.app, name="bench")
app.add_typer(demos.app, name="demos")
app.add_typer(traces.app, name="traces")
app.add_typer(keys.app, name="keys")
app.add_typer(student.app, name="student")
app.add_typer(release.app, name="release")
app.add_typer(flywheel.app, name="flywheel")


@app.callback(invoke_without_command=True)
def version(
    show: bool = typer.Option(False, "--version", help="Print the version and exit."),
) -> None:
    """A cheap student acts for an expensive teacher, at the teacher's success rate."""
    if show:
        typer.echo(__version__)
        raise typer.Exit


# Typer has no public name for what all its usage errors are.
UsageError: type[Any] = typer.BadParameter.__bases__[0]


def main() -> None:
    """Runs the command line; an expected error is one line on stderr, never a traceback."""
    from tutelage.runtime.errors import ConfigError, TutelageError

    try:
        # Ctrl-C comes back as the code 130.
        sys.exit(app(prog_name="tutelage", standalone_mode=False))
    except UsageError as error:
        _say_usage(error)
        sys.exit(2)
    except ConfigError as error:
        typer.echo(f"error: {error}", err=True)
        sys.exit(2)
    except TutelageError as error:
        typer.echo(f"error: {error}", err=True)
        sys.exit(1)


def _say_usage(error: Any) -> None:
    if type(error).__name__ == "NoArgsIsHelpError":
        # The help itself, unless it was printed when it was made.
        typer.echo(error.format_message(), nl=False)
        return
    command = error.ctx.command_path if error.ctx else "tutelage"
    message = error.format_message().rstrip(".")
    typer.echo(f"error: {message}; see {command} --help", err=True)


if __name__ == "__main__":
    main()
