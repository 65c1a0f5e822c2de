"""Wrap an ``openai`` client: the calls stay the same, a cheap student may answer them.

The bank is empty at first, so the student's samples disagree and the teacher takes every step.
Its successful episode is harvested into the bank. In the second episode the student sees what the
teacher did, its samples agree, and the teacher is not asked.

Run it: ``python examples/wrap_openai.py``
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import openai
from scripted_upstream import scripted_upstream
from ticket_desk import INSTRUCTIONS, Ticket

import tutelage

CONFIG = """\
[student]
base_url = "{base_url}"
model = "small"
priced_as = "gpt-4.1-mini"

[teacher]
priced_as = "gpt-4.1"

[retrieval]
embedder = "hash"     # for this example; the default, minilm, knows meaning

[store]
url = "sqlite:///{folder}/tutelage.sqlite"
"""


def handle(client: Any, ticket: Ticket) -> None:
    """The agent's loop, as it was before the client was wrapped but for the episode."""
    messages = [
        {"role": "system", "content": INSTRUCTIONS},
        {"role": "user", "content": f"Task: {ticket.goal}\n{ticket.observation}"},
    ]
    with client.episode(goal=ticket.goal) as episode:
        for _ in range(6):
            answer = client.chat.completions.create(model="big", messages=messages)
            command = answer.choices[0].message.content
            print(f"{answer.tutelage['served']:>8} ({answer.tutelage['reason']}): {command}")
            ticket.act(command)
            messages.append({"role": "assistant", "content": command})
            messages.append({"role": "user", "content": ticket.observation})
            if ticket.solved:
                break
        episode.feedback(success=ticket.solved)


def main() -> None:
    """Two tickets, with a harvest between them."""
    with scripted_upstream() as base_url, tempfile.TemporaryDirectory() as folder:
        config = Path(folder) / "tutelage.toml"
        config.write_text(CONFIG.format(base_url=base_url, folder=folder), encoding="utf-8")
        with openai.OpenAI(base_url=base_url, api_key="none") as plain:
            client = tutelage.wrap(plain, config)
            print("first episode")
            handle(client, Ticket(7, 1042))
            client.tutelage.close()

            # In a shell: tutelage demos harvest
            harvest = ["-m", "tutelage.cli.main", "demos", "harvest", "--json", "-c", str(config)]
            ran = subprocess.run([sys.executable, *harvest], stdout=subprocess.PIPE, check=True)
            print(f"harvested {json.loads(ran.stdout)['demonstrations']} demonstrations")

            client = tutelage.wrap(plain, config)
            print("second episode")
            handle(client, Ticket(8, 2001))
            client.close()


if __name__ == "__main__":
    main()
