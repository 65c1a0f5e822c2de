"""``tutelage student``: a real small student in a real vLLM, or a diffusion student here."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tutelage.cli.options import ConfigFile, Json, Setting, settings
from tutelage.cli.output import print_json

NAME = "SmolLM2-135M-Instruct"

app = typer.Typer(
    no_args_is_help=True,
    help="Install, start and stop a vLLM server with SmolLM2-135M-Instruct; serve a diffusion "
    "student.",
)


@app.command("checkpoint")
def checkpoint() -> None:
    """Fetch the student's checkpoint into the cache."""
    from tutelage.runtime.cache_dir import cache_dir
    from tutelage.runtime.models.checkpoint import student_checkpoint

    typer.echo(student_checkpoint(cache_dir(), progress=_say))


@app.command("install")
def install() -> None:
    """Fetch the checkpoint, and make the vLLM environment in the cache (3.5 GB)."""
    from tutelage.runtime.cache_dir import cache_dir
    from tutelage.runtime.models.checkpoint import student_checkpoint
    from tutelage.runtime.models.vllm_environment import install_vllm

    typer.echo(student_checkpoint(cache_dir(), progress=_say))
    typer.echo(install_vllm(cache_dir(), progress=_say))


@app.command("start")
def start(
    max_model_len: Annotated[
        int, typer.Option(min=256, help="Longest prompt and answer, tokens.")
    ] = 4096,
    port: Annotated[int, typer.Option(min=0, help="0: any free port.")] = 0,
    config: ConfigFile = None,
    setting: Setting = None,
    json: Json = False,
) -> None:
    """Start the server and leave it running; one that runs already is kept.

    It guesses ahead as student.speculation says; `tutelage doctor --student` measures what to set.
    """
    from tutelage.runtime.cache_dir import cache_dir
    from tutelage.runtime.config import load_config
    from tutelage.runtime.models.checkpoint import student_checkpoint
    from tutelage.runtime.models.speculation import check_samples, speculative_arguments
    from tutelage.runtime.models.student_server import start_student_server
    from tutelage.runtime.models.vllm import VllmServer
    from tutelage.runtime.models.vllm_environment import detect_device

    loaded = load_config(config, overrides=settings(setting))
    chosen = loaded.student.speculation
    speculation = None if chosen is None else chosen.speculation()
    if speculation is not None:
        check_samples(speculation, detect_device(), loaded.cascade.temperature)
    arguments = speculative_arguments(speculation)
    folder = student_checkpoint(cache_dir(), progress=_say)
    _say("starting vLLM, about a minute")
    state = start_student_server(
        cache_dir(),
        folder,
        lambda path, **more: VllmServer(
            path,
            port=port,
            served_name=NAME,
            max_model_len=max_model_len,
            extra_arguments=arguments,
            **more,
        ),
    )
    if json:
        print_json({"base_url": state.base_url, "model": state.model, "log": state.log_path})
        return
    typer.echo(f"student ready at {state.base_url} (log: {state.log_path})")
    typer.echo(
        "use it: --set student.base_url=" + f"{state.base_url} --set student.model={state.model}"
    )


@app.command("status")
def status(json: Json = False) -> None:
    """Say whether the server runs and answers."""
    from tutelage.runtime.cache_dir import cache_dir
    from tutelage.runtime.models.student_server import student_server_state

    state = student_server_state(cache_dir())
    ready = state is not None and state.ready
    if json:
        print_json({"base_url": state.base_url if state else None, "ready": ready})
    elif state is None:
        typer.echo("no student server: `tutelage student start`")
    else:
        typer.echo(
            f"{state.base_url}: {'ready' if ready else 'not answering, see ' + state.log_path}"
        )
    if not ready:
        raise typer.Exit(1)


@app.command("stop")
def stop() -> None:
    """Stop the server that was left running."""
    from tutelage.runtime.cache_dir import cache_dir
    from tutelage.runtime.models.student_server import stop_student_server

    typer.echo("stopped" if stop_student_server(cache_dir()) else "no student server was running")


@app.command("serve")
def serve(
    diffusion: Annotated[
        Path, typer.Option("--diffusion", help="Folder of a masked-diffusion student.")
    ],
    host: Annotated[str, typer.Option("--host", help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="0: any free port.")] = 0,
    name: Annotated[
        str, typer.Option("--name", help="Model name that requests use.")
    ] = "diffusion-student",
    rule: Annotated[
        str, typer.Option("--rule", help="one-token, top-k, confidence or entropy.")
    ] = "entropy",
    threshold: Annotated[
        float | None,
        typer.Option(
            "--threshold",
            help="Of the rule: tokens, probability or nats (default: 2, 0.9, 0.5).",
            show_default=False,
        ),
    ] = None,
    cache: Annotated[
        str,
        typer.Option("--cache", help="auto (exact where it can be), none, exact or approximate."),
    ] = "auto",
    rows: Annotated[int, typer.Option("--rows", min=1, help="Most samples in a batch.")] = 32,
    threads: Annotated[
        int | None,
        typer.Option(
            "--threads", min=1, help="Threads (default: all cores but one).", show_default=False
        ),
    ] = None,
    device: Annotated[str, typer.Option("--device", help="torch device.")] = "cpu",
    json: Json = False,
) -> None:
    """Serve a masked-diffusion student with the OpenAI API, several tokens a forward.

    SIGTERM and Ctrl-C finish what is under way.
    """
    try:
        from tutelage.training.diffusion.serving import serve_folder
    except ImportError as error:
        from tutelage.runtime.errors import MissingExtra

        raise MissingExtra(error.name or "torch", "train") from error

    def ready(base_url: str) -> None:
        if json:
            print_json({"base_url": base_url, "model": name})
            return
        typer.echo(f"student ready at {base_url}")
        typer.echo(f"use it: --set student.base_url={base_url} --set student.model={name}")

    serve_folder(
        diffusion,
        host=host,
        port=port,
        name=name,
        rule=rule,
        threshold=threshold,
        cache=cache,
        rows=rows,
        threads=threads,
        device=device,
        ready=ready,
    )


def _say(line: str) -> None:
    typer.echo(line, err=True)
