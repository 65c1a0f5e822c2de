"""The exception tree. Every error tutelage raises on purpose is in it.

TutelageError
├── ConfigError              a configuration value is missing, unknown or out of range
├── MissingExtra             an optional dependency is not installed; names the install command
├── BadRequest               the caller's chat request cannot be served as it is
├── Unauthenticated          no key, or none that opens this gateway
├── Forbidden                the key does not allow this
├── KeysUnavailable          keys cannot be looked up now, and this one is not remembered
├── OverLimit                a rate limit of the key is reached
├── OverBudget               the budget of the key does not cover the request
├── ModelError               a student or teacher endpoint failed
│   ├── ModelTimeout         connect, first-byte, idle or total deadline passed
│   ├── RateLimited          429, with ``retry_after_s`` where the endpoint gave one
│   ├── Refused              4xx: the endpoint rejected the request
│   ├── ContextTooLong       the prompt does not fit the model
│   ├── BadResponse          5xx, malformed JSON or SSE, empty choices
│   └── Unreachable          failed so often that it is left alone for a while
├── RetrievalError           demonstrations could not be searched
│   ├── EmbedderMismatch     the bank was built with another embedder
│   └── IndexDamaged         the index cache fails its checksum
├── StoreError               the database could not be read or written
│   └── SchemaTooNew         the database was written by a newer release
├── PriceUnknown             no price is known for a model
├── TrainingError            a student could not be trained, released or deployed
│   ├── NoExamples           no trace passed the gate
│   ├── CheckpointDamaged    weights or state on disk fail their checksum
│   └── ReleaseRefused       a release may not do what was asked of it
└── BenchmarkError           a world, its files or a replay is not usable
    ├── WorldMissing         data of a world is not where it was looked for
    └── WorkerDied           the process that plays a world ended early
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType


class TutelageError(Exception):
    """Base of all errors raised on purpose; its text is one line that a user can act on."""


class ConfigError(TutelageError):
    """A configuration value is missing, unknown or out of range."""


class MissingExtra(TutelageError):
    """An optional dependency is needed.

    Args:
        package: The import that failed.
        extra: The extra of ``tutelage`` that brings it.
        install: What else to run, where the extra alone does not bring it.
    """

    def __init__(self, package: str, extra: str, install: str | None = None) -> None:
        command = install or f"pip install 'tutelage[{extra}]'"
        super().__init__(f"{package} is not installed: {command}")
        self.package = package
        self.extra = extra


class BadRequest(TutelageError):
    """The caller's chat request cannot be served as it is.

    Args:
        message: One line for a person.
        param: The field that is wrong, as in ``messages.0.role``.
        code: A word for programs.
    """

    def __init__(self, message: str, *, param: str | None = None, code: str | None = None) -> None:
        super().__init__(message)
        self.param = param
        self.code = code


class Unauthenticated(TutelageError):
    """No key, or none that opens this gateway."""


class Forbidden(TutelageError):
    """The key does not allow this."""


class KeysUnavailable(TutelageError):
    """Keys cannot be looked up now, and this one is not remembered."""


class OverLimit(TutelageError):
    """A rate limit of the key is reached.

    Args:
        message: One line for a person.
        retry_after_s: Seconds until the limit allows a request again.
    """

    def __init__(self, message: str, *, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class OverBudget(TutelageError):
    """The budget of the key does not cover the request."""


class ModelError(TutelageError):
    """A student or teacher endpoint failed.

    Args:
        message: One line for a person.
        status: HTTP status of the endpoint, if it answered.
        body: The endpoint's own error object, if it sent one, for the client to see unchanged.

    Attributes:
        raw: The body of the answer as it was sent, our own key masked; ``None``: there was none.
        headers: The headers of that answer, looked up case-insensitively.
        told: What a client of the gateway is told; the text itself may name an address of the
            endpoint, which concerns its operator alone. ``None``: the text without addresses.
    """

    told: str | None = None
    raw: bytes | None = None
    headers: Mapping[str, str] = MappingProxyType({})

    def __init__(
        self, message: str, *, status: int | None = None, body: dict[str, object] | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.body = body


class ModelTimeout(ModelError):
    """The connect, first-byte, idle or total deadline passed."""


class RateLimited(ModelError):
    """The endpoint answered 429.

    Args:
        retry_after_s: Seconds the endpoint asked us to wait, if it said so.
    """

    def __init__(
        self,
        message: str,
        *,
        status: int | None = 429,
        body: dict[str, object] | None = None,
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(message, status=status, body=body)
        self.retry_after_s = retry_after_s


class Refused(ModelError):
    """The endpoint rejected the request (4xx)."""


class ContextTooLong(Refused):
    """The prompt does not fit the model."""


class BadResponse(ModelError):
    """The endpoint answered 5xx, malformed JSON or SSE, or no choices."""


class Unreachable(ModelError):
    """The endpoint failed so often in a row that it is not asked for a while.

    Args:
        retry_after_s: Seconds until it is asked again.
    """

    def __init__(
        self, message: str, *, status: int | None = 503, retry_after_s: float | None = None
    ) -> None:
        super().__init__(message, status=status)
        self.retry_after_s = retry_after_s


class RetrievalError(TutelageError):
    """Demonstrations could not be searched."""


class EmbedderMismatch(RetrievalError):
    """The bank was built with another embedder."""


class IndexDamaged(RetrievalError):
    """The index cache fails its checksum."""


class StoreError(TutelageError):
    """The database could not be read or written."""


class SchemaTooNew(StoreError):
    """The database was written by a newer release of tutelage."""


class PriceUnknown(TutelageError):
    """No price is known for a model."""


class TrainingError(TutelageError):
    """A student could not be trained, released or deployed."""


class NoExamples(TrainingError):
    """No trace passed the gate; the text says why and what to do."""


class CheckpointDamaged(TrainingError):
    """Weights or state on disk fail their checksum."""


class ReleaseRefused(TrainingError):
    """A release may not do what was asked of it: a gate failed, or its stage does not allow it."""


class BenchmarkError(TutelageError):
    """A world, its files or a replay is not usable."""


class WorldMissing(BenchmarkError):
    """Data of a world is not where it was looked for."""


class WorkerDied(BenchmarkError):
    """The process that plays a world ended early."""
