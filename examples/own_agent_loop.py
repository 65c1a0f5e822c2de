"""An agent loop of your own on ``open_runtime``: episodes, feedback, harvest, and what it cost.

Run it: ``python examples/own_agent_loop.py``
"""

from __future__ import annotations

import asyncio
import os
import tempfile

from scripted_upstream import scripted_upstream
from ticket_desk import INSTRUCTIONS, Ticket

import tutelage
from tutelage.assembly import open_assembly
from tutelage.gathering import gather


def configured(base_url: str, folder: str) -> tutelage.Config:
    """What would stand in ``tutelage.toml``."""
    return tutelage.load_config(
        environment={},
        overrides={
            "teacher.base_url": base_url,
            "teacher.model": "big",
            "teacher.api_key_env": "EXAMPLE_KEY",
            "teacher.priced_as": "gpt-4.1",
            "student.base_url": base_url,
            "student.model": "small",
            "student.priced_as": "gpt-4.1-mini",
            "retrieval.embedder": "hash",
            "store.url": f"sqlite:///{folder}/tutelage.sqlite",
        },
    )


async def handle(runtime: tutelage.Runtime, ticket: Ticket) -> None:
    """One episode: every step is a chat request, the outcome is the feedback."""
    messages = [
        {"role": "system", "content": INSTRUCTIONS},
        {"role": "user", "content": f"Task: {ticket.goal}\n{ticket.observation}"},
    ]
    spent_usd = teacher_alone_usd = 0.0
    async with runtime.episode(goal=ticket.goal) as episode:
        for _ in range(6):
            request = tutelage.ChatRequest.model_validate({"model": "agent", "messages": messages})
            answer = await episode.complete(request)
            spent_usd += sum(answer.trace.cost_usd.values())
            teacher_alone_usd += answer.trace.baseline_cost_usd or 0.0
            print(f"{answer.decision.served:>8} ({answer.decision.reason}): {answer.text}")
            ticket.act(answer.text)
            messages = [
                *messages,
                {"role": "assistant", "content": answer.text},
                {"role": "user", "content": ticket.observation},
            ]
            if ticket.solved:
                break
        await episode.feedback(success=ticket.solved)
    print(f"{'cost':>8} ${spent_usd:.6f}, the teacher alone ${teacher_alone_usd:.6f}")


async def run(config: tutelage.Config) -> None:
    """Two tickets, with a harvest between them."""
    print("first episode")
    async with tutelage.open_runtime(config) as runtime:
        await handle(runtime, Ticket(7, 1042))

    async with open_assembly(config) as assembly:
        gathered = await gather(assembly, config.tenant)
    print(f"harvested {gathered.demonstrations} demonstrations")

    print("second episode")
    async with tutelage.open_runtime(config) as runtime:
        await handle(runtime, Ticket(8, 2001))


def main() -> None:
    """Runs both episodes against scripted endpoints."""
    os.environ["EXAMPLE_KEY"] = "none"
    with scripted_upstream() as base_url, tempfile.TemporaryDirectory() as folder:
        asyncio.run(run(configured(base_url, folder)))


if __name__ == "__main__":
    main()
