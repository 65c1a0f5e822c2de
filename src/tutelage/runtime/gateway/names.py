"""Names that others read: metrics, span attributes, and headers; all of them stand here.

The ``gen_ai.*`` names and buckets are those of the OpenTelemetry semantic conventions 1.41.1, the
last release that has them in the main repository; their status is "development".
"""

from __future__ import annotations

from typing import Final

SEMCONV_VERSION: Final = "1.41.1"
SCHEMA_URL: Final = f"https://opentelemetry.io/schemas/{SEMCONV_VERSION}"

COUNTS_FOLDER: Final = "PROMETHEUS_MULTIPROC_DIR"
"""Environment variable that makes prometheus_client count in files that processes share."""

OTHER: Final = "other"
"""The label of whatever is not in a closed list."""

# Metrics of our own, base units.
REQUESTS: Final = "tutelage_requests"
DECISIONS: Final = "tutelage_decisions"
OVERHEAD: Final = "tutelage_overhead_seconds"
TTFT_PENALTY: Final = "tutelage_ttft_penalty_seconds"
AGREEMENT: Final = "tutelage_agreement_ratio"
SAMPLES: Final = "tutelage_samples"
COST: Final = "tutelage_cost_usd"
BASELINE_COST: Final = "tutelage_baseline_cost_usd"
IN_FLIGHT: Final = "tutelage_requests_inflight"
QUEUE: Final = "tutelage_ledger_queue_rows"
DROPPED_TRACES: Final = "tutelage_dropped_traces"
UPSTREAM_IN_FLIGHT: Final = "tutelage_upstream_inflight"
BREAKER: Final = "tutelage_upstream_breaker_state"
BUILD: Final = "tutelage_build"
STUDENT_VERSION: Final = "tutelage_student_version"
POLICY_REFUSED: Final = "tutelage_release_policy_refused"
RISK_ESTIMATE: Final = "tutelage_risk_estimate"
RISK_BOUND: Final = "tutelage_risk_bound"

# Metrics of the conventions, with underscores for the dots.
TOKEN_USAGE: Final = "gen_ai_client_token_usage"
OPERATION_DURATION: Final = "gen_ai_client_operation_duration"
TIME_TO_FIRST_CHUNK: Final = "gen_ai_client_operation_time_to_first_chunk"
REQUEST_DURATION: Final = "gen_ai_server_request_duration"
TIME_TO_FIRST_TOKEN: Final = "gen_ai_server_time_to_first_token"
TIME_PER_OUTPUT_TOKEN: Final = "gen_ai_server_time_per_output_token"

TOKEN_BUCKETS: Final = tuple(float(4**power) for power in range(14))
"""1, 4, 16, … 67108864 tokens."""
DURATION_BUCKETS: Final = tuple(round(0.01 * 2**power, 2) for power in range(14))
"""0.01, 0.02, 0.04, … 81.92 s."""
FIRST_TOKEN_BUCKETS: Final = (
    0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0,
)  # fmt: skip
OUTPUT_TOKEN_BUCKETS: Final = (
    0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5,
)  # fmt: skip
OVERHEAD_BUCKETS: Final = (
    0.0005, 0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.015, 0.025, 0.05, 0.1, 0.25, 1.0,
)  # fmt: skip
PENALTY_BUCKETS: Final = (
    0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0,
)  # fmt: skip
SHARE_BUCKETS: Final = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)

# Labels, and attributes with dots.
OPERATION_NAME: Final = "gen_ai.operation.name"
PROVIDER_NAME: Final = "gen_ai.provider.name"
REQUEST_MODEL: Final = "gen_ai.request.model"
REQUEST_STREAM: Final = "gen_ai.request.stream"
CHOICE_COUNT: Final = "gen_ai.request.choice.count"
TOKEN_TYPE: Final = "gen_ai.token.type"
RESPONSE_ID: Final = "gen_ai.response.id"
RESPONSE_TIME_TO_FIRST_CHUNK: Final = "gen_ai.response.time_to_first_chunk"
INPUT_TOKENS: Final = "gen_ai.usage.input_tokens"
OUTPUT_TOKENS: Final = "gen_ai.usage.output_tokens"
CACHE_READ_TOKENS: Final = "gen_ai.usage.cache_read.input_tokens"
CACHE_WRITE_TOKENS: Final = "gen_ai.usage.cache_creation.input_tokens"
CONVERSATION_ID: Final = "gen_ai.conversation.id"
DATA_SOURCE_ID: Final = "gen_ai.data_source.id"
RETRIEVAL_DOCUMENTS: Final = "gen_ai.retrieval.documents"
INPUT_MESSAGES: Final = "gen_ai.input.messages"
OUTPUT_MESSAGES: Final = "gen_ai.output.messages"
EVALUATION_EVENT: Final = "gen_ai.evaluation.result"
EVALUATION_NAME: Final = "gen_ai.evaluation.name"
EVALUATION_SCORE: Final = "gen_ai.evaluation.score.value"
EVALUATION_LABEL: Final = "gen_ai.evaluation.score.label"
ERROR_TYPE: Final = "error.type"
HTTP_STATUS: Final = "http.response.status_code"

CHAT: Final = "chat"
EMBEDDINGS: Final = "embeddings"
TEXT_COMPLETION: Final = "text_completion"
RETRIEVAL: Final = "retrieval"
PROVIDER: Final = "tutelage"
"""Our own provider name, towards clients."""

# Attributes of our own: the conventions know no cost and no cascade.
DECISION_ID: Final = "tutelage.decision.id"
MODE: Final = "tutelage.mode"
SERVED: Final = "tutelage.served"
REASON: Final = "tutelage.reason"
ROLE: Final = "tutelage.role"
SAMPLE_COUNT: Final = "tutelage.samples"
DEMONSTRATION_COUNT: Final = "tutelage.demonstrations"
COST_USD: Final = "tutelage.cost_usd"
BASELINE_COST_USD: Final = "tutelage.cost_baseline_usd"
OVERHEAD_S: Final = "tutelage.overhead_s"
TENANT: Final = "tutelage.tenant"
KEY_ID: Final = "tutelage.key.id"

HEADER_PREFIX: Final = "x-tutelage-"
HEADER_SCHEMA: Final = 1
"""Raised when a header of ours changes its meaning."""


def label(attribute: str) -> str:
    """An attribute's name as a Prometheus label."""
    return attribute.replace(".", "_")


def operation(route: str) -> str:
    """The operation of the conventions that a route stands for; ``other`` if none."""
    return _OPERATIONS.get(route, OTHER)


_OPERATIONS: Final = {
    "chat": CHAT,
    "responses": CHAT,
    "messages": CHAT,
    "completions": TEXT_COMPLETION,
    "embeddings": EMBEDDINGS,
}
