"""The text of an answer while it is written."""

from __future__ import annotations

from collections.abc import Sequence

from tutelage.training.diffusion.chat import ChatTokens


class AnswerText:
    """Turns growing tokens into text, and ends it at the first stop text.

    Args:
        chat: Tokenizer.
        stop: Texts that end the answer, and are left out of it.
    """

    def __init__(self, chat: ChatTokens, stop: Sequence[str] = ()) -> None:
        self._chat = chat
        self._stop = stop
        self._told = 0
        self.stopped = False
        """Whether a stop text was written."""

    def final(self, tokens: Sequence[int]) -> str:
        """The text of all tokens."""
        text = self._chat.decode(tokens)
        found = [at for at in (text.find(stop) for stop in self._stop) if at >= 0]
        self.stopped = bool(found)
        return text[: min(found)] if found else text

    def grown(self, tokens: Sequence[int]) -> str:
        """What may be passed on of the text since the last call; later tokens do not change it."""
        text = self.final(tokens)
        if not self.stopped:
            longest = max(map(len, self._stop), default=1)
            # Half of a character that is spread over several tokens decodes to U+FFFD.
            text = text[: len(text) - longest + 1].rstrip("\ufffd")
        return self._piece(text)

    def rest(self, tokens: Sequence[int]) -> str:
        """What is left to pass on at the end."""
        return self._piece(self.final(tokens))

    def _piece(self, text: str) -> str:
        piece = text[self._told :]
        self._told = max(self._told, len(text))
        return piece
