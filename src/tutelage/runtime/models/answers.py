"""Bodies of successful answers, read into completions."""

from __future__ import annotations

from tutelage.runtime.errors import BadResponse
from tutelage.runtime.models.failures import error_object
from tutelage.runtime.types import Completion


def completion_from(body: object, endpoint: str, model: str) -> Completion:
    """Reads the body of a 200 answer.

    Args:
        body: The decoded JSON.
        endpoint: What errors call the endpoint.
        model: The name of the model, for endpoints that do not repeat it.

    Raises:
        BadResponse: The body is not a chat completion, or has no choices.
    """
    if not isinstance(body, dict):
        raise BadResponse(f"{endpoint} answered 200 with JSON that is no object", status=200)
    if not body.get("choices"):
        error = error_object(body) if "error" in body else None
        reason = f": {error['message']}" if error and error.get("message") else ""
        raise BadResponse(
            f"{endpoint} answered 200 without choices{reason}", status=200, body=error
        )
    try:
        return Completion.from_wire({"id": "", "model": model, **body})
    except (ValueError, TypeError, AttributeError) as error:
        lines = str(error).splitlines()
        raise BadResponse(
            f"{endpoint} answered 200 with something that is no chat completion: "
            + "; ".join(line.strip() for line in lines[:3]),
            status=200,
        ) from error
