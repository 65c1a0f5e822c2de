"""What the agent of the examples works on: a ticket that asks for a refund."""

from __future__ import annotations

INSTRUCTIONS = "You handle tickets. Reply with one command: show, refund, close."


class Ticket:
    """One ticket; ``observation`` is what the agent sees, ``solved`` whether it is done.

    Args:
        number: The ticket.
        order: The order it is about.
    """

    def __init__(self, number: int, order: int) -> None:
        self.goal = f"refund order {order}"
        self.observation = f"Ticket {number} is open: please refund order {order}."
        self.solved = False
        self._order = order
        self._refunded = False

    def act(self, command: str) -> None:
        """Carries out a command; one that makes no sense here changes nothing."""
        if command == f"show order {self._order}":
            self.observation = f"Order {self._order} was paid and not delivered."
        elif command == f"refund order {self._order}":
            self._refunded = True
            self.observation = f"Order {self._order} is refunded."
        elif command == "close ticket" and self._refunded:
            self.solved = True
            self.observation = "The ticket is closed."
        else:
            self.observation = "Nothing happens."
