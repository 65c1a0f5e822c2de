"""A value that must not be seen: API keys and the like."""

from __future__ import annotations

import hmac
import re
from typing import Final, NoReturn, final

SHORTEST_REDACTED = 8
_VARIABLE = re.compile(r"[A-Z_][A-Z0-9_]*|[a-z_][a-z0-9_]*", re.ASCII)


@final
class Secret:
    """Holds a secret text; ``repr``, ``str``, formatting and logging show ``***``.

    Args:
        value: The secret itself.

    Raises:
        ValueError: The value is empty or holds a line break, which no header can carry.
    """

    __slots__ = ("__value",)

    MASK: Final = "***"

    def __init__(self, value: str) -> None:
        value = value.strip()
        if not value:
            raise ValueError("a secret is empty: set it, or leave it out altogether")
        if any(ord(character) < 32 for character in value):
            raise ValueError("a secret holds a line break or a control character: paste it again")
        self.__value = value

    def reveal(self) -> str:
        """The secret itself; call it only where the value is sent."""
        return self.__value

    def redact(self, text: str) -> str:
        """The text with every occurrence of the secret masked.

        Values below 8 characters, such as the ``EMPTY`` that local servers take, are placeholders
        and left in place.
        """
        if len(self.__value) < SHORTEST_REDACTED:
            return text
        return text.replace(self.__value, self.MASK)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Secret):
            return NotImplemented
        return hmac.compare_digest(self.__value.encode(), other.reveal().encode())

    def __hash__(self) -> int:
        return hash((Secret, self.__value))

    def __repr__(self) -> str:
        return f"Secret({self.MASK})"

    def __str__(self) -> str:
        return self.MASK

    def __reduce__(self) -> NoReturn:
        raise TypeError("a Secret is not pickled: read it again where it is needed")


def shown_variable(name: str) -> str:
    """The name of an environment variable for an error; a key that stands in its place is masked.

    Args:
        name: As configured; names of variables are all upper or all lower case.
    """
    return name if _VARIABLE.fullmatch(name) else Secret.MASK
