"""``tutelage init``: a commented configuration."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

TEMPLATE = """\
# tutelage: a cheap student acts, the teacher keeps the success rate.
# Every key can also be set as an environment variable: TUTELAGE_CASCADE__SAMPLES=5.

tenant = "default"

[teacher]                                 # the model you pay for today
base_url = "https://api.openai.com/v1"    # any OpenAI-compatible endpoint
model = "gpt-4.1"
api_key_env = "OPENAI_API_KEY"            # the variable that holds the key, never the key
# priced_as = "gpt-4.1"                   # row of the price table, or give your own:
# price = { input = 2.00, cache_read = 0.50, output = 8.00 }   # USD per million tokens

[student]                                 # the cheap model
# base_url = "http://127.0.0.1:8011/v1"   # a vLLM server (`tutelage student start`);
# model = "SmolLM2-135M-Instruct"         # without base_url it runs in this process
priced_as = "gpt-4.1-mini"

[retrieval]                               # the teacher's demonstrations in the student's prompt
k = 3                                     # demonstrations a step
before = 2                                # turns shown before the one to imitate

[prompt]
rendering = "turns"                       # or "block"
layout = "per-step"                       # or "pinned": a stable prefix for prompt caches
history_turns = 5                         # latest turns that the student sees, or "all"
max_prompt_tokens = 1600

[cascade]                                 # who serves a step
policy = "paper"                          # all samples name one action, else the teacher
samples = 3
temperature = 0.7
guards = ["rejection", "loop", "stall"]   # a looping student agrees with itself

[store]                                   # traces and demonstrations
url = "sqlite:///tutelage.sqlite"

[gateway]                                 # `tutelage serve`
host = "127.0.0.1"
port = 8080
# admin_port = 8081                       # keys, budgets, reload
# workers = 2

# [aliases."gpt-4.1"]                     # a model that clients may ask for; default: any
# mode = "cascade"                        # or passthrough, shadow, route
# teacher_only_tools = ["delete_*"]       # tools that the student never calls
"""


def init(
    path: Annotated[Path, typer.Argument(help="Where to write it.")] = Path("tutelage.toml"),
    force: Annotated[bool, typer.Option("--force", help="Replace an existing file.")] = False,
) -> None:
    """Write a commented configuration file."""
    from tutelage.runtime.errors import ConfigError

    if path.exists() and not force:
        raise ConfigError(f"{path} exists already: use --force to replace it, or name another")
    try:
        path.write_text(TEMPLATE, encoding="utf-8")
    except OSError as error:
        raise ConfigError(
            f"{path} cannot be written ({error.strerror}): name a file in a folder that exists"
        ) from None
    typer.echo(f"wrote {path}; next: tutelage doctor")
