"""``tutelage train``: a student from the verified traces, without a release."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tutelage.cli.options import ConfigFile, Json, Setting, Tenant
from tutelage.cli.output import print_json
from tutelage.cli.stored import with_assembly
from tutelage.cli.training_bar import listeners

if TYPE_CHECKING:
    from tutelage.assembly import Assembly


def train(
    out: Annotated[Path, typer.Option(help="Folder of the run; run again to go on.")] = Path(
        "out/train"
    ),
    tenant: Tenant = None,
    config: ConfigFile = None,
    setting: Setting = None,
    json: Json = False,
) -> None:
    """Train a student on the tenant's verified traces; nothing is released.

    `tutelage flywheel run` does this and all that follows.
    """
    from tutelage.learning import LearningStages
    from tutelage.loop import train_once

    with listeners(quiet=json) as heard:

        async def work(assembly: Assembly, owner: str) -> dict[str, Any]:
            stages = LearningStages(assembly, owner, watch=heard.training).stages
            told = heard.stage or (lambda stage, text: None)
            return await train_once(assembly, owner, out, told, learning=stages)

        found = with_assembly(config, setting, tenant, work, priced=True)
    if json:
        print_json(found)
        return
    typer.echo(f"wrote {found['checkpoint']}: set student.checkpoint, or serve it with vLLM")
