from __future__ import annotations

from opentelemetry.semconv._incubating.attributes import error_attributes, gen_ai_attributes
from opentelemetry.semconv._incubating.metrics import gen_ai_metrics
from opentelemetry.semconv.attributes import http_attributes

from tutelage.runtime.gateway import names

OURS = {name: value for name, value in vars(names).items() if isinstance(value, str)}


def published(*modules: object) -> set[str]:
    return {value for module in modules for value in vars(module).values() if type(value) is str}


def test_every_attribute_that_is_not_ours_is_one_of_the_conventions() -> None:
    known = published(gen_ai_attributes, error_attributes, http_attributes)
    dotted = {
        value
        for name, value in OURS.items()
        if "." in value and not value.startswith(("tutelage.", "https:")) and name.isupper()
    } - {names.EVALUATION_EVENT, names.SEMCONV_VERSION}

    assert len(dotted) > 15
    assert dotted <= known


def test_every_metric_that_is_not_ours_is_one_of_the_conventions() -> None:
    known = {name.replace(".", "_") for name in published(gen_ai_metrics)}
    metrics = {value for value in OURS.values() if value.startswith("gen_ai_")}

    assert len(metrics) == 6
    assert metrics <= known


def test_metrics_and_attributes_of_ours_carry_our_prefix() -> None:
    own = [value for value in OURS.values() if value.startswith("tutelage")]

    assert names.PROVIDER in own
    assert all(
        value == names.PROVIDER or value.startswith(("tutelage_", "tutelage.")) for value in own
    )


def test_the_buckets_are_the_published_ones() -> None:
    assert names.TOKEN_BUCKETS == (
        1, 4, 16, 64, 256, 1024, 4096, 16384, 65536, 262144, 1048576, 4194304, 16777216, 67108864,
    )  # fmt: skip
    assert names.DURATION_BUCKETS == (
        0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92,
    )  # fmt: skip


def test_routes_are_operations_of_the_conventions_or_other() -> None:
    assert names.operation("messages") == "chat"
    assert names.operation("embeddings") == "embeddings"
    assert names.operation("models") == "other"
    assert names.label("gen_ai.token.type") == "gen_ai_token_type"
