"""What a client says of how an episode ended."""

from __future__ import annotations

from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from tutelage.runtime.errors import BadRequest
from tutelage.runtime.types import EpisodeRecord


class Feedback(BaseModel):
    """The body of ``POST /v1/feedback``."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    episode_id: str | None = Field(None, min_length=1, max_length=128)
    decision_id: str | None = Field(None, min_length=1, max_length=64)
    """Of any step of the episode."""
    success: bool | None = None
    reward: float | None = Field(None, allow_inf_nan=False)
    """A finer score, in the unit of the client."""
    comment: str | None = Field(None, max_length=4000)

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        if (self.episode_id is None) == (self.decision_id is None):
            raise ValueError("give either episode_id or decision_id")
        if self.success is None and self.reward is None and self.comment is None:
            raise ValueError("give success, reward or comment")
        return self

    @classmethod
    def read(cls, raw: bytes) -> Self:
        """The feedback in a body.

        Raises:
            BadRequest: It is none; ``param`` names the field.
        """
        try:
            return cls.model_validate_json(raw)
        except ValidationError as error:
            first: Any = error.errors(include_url=False, include_context=False)[0]
            param = ".".join(map(str, first["loc"])) or None
            text = f"{param}: {first['msg']}" if param else str(first["msg"])
            raise BadRequest(text, param=param, code="invalid_feedback") from None

    def record(self, tenant: str, episode_id: str, created_at_s: float) -> EpisodeRecord:
        """The outcome as the store keeps it."""
        return EpisodeRecord(
            id=episode_id,
            tenant=tenant,
            success=self.success,
            reward=self.reward,
            comment=self.comment,
            created_at_s=created_at_s,
        )
