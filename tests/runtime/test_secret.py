from __future__ import annotations

import copy
import logging
import pickle

import pytest

from tutelage.runtime.secret import Secret

VALUE = "sk-a-key-that-nobody-may-see"


def test_a_secret_is_never_shown(caplog: pytest.LogCaptureFixture) -> None:
    secret = Secret(VALUE)
    with caplog.at_level(logging.DEBUG):
        logging.getLogger("t").info("%s %r %s", secret, secret, {"key": [secret]})

    shown = f"{secret} {secret!r} {secret!s:>40} {[secret]} {caplog.text} {vars(type(secret))}"
    assert VALUE not in shown
    assert "***" in shown


def test_a_secret_is_revealed_on_purpose_only() -> None:
    assert Secret(f" {VALUE}\n").reveal() == VALUE
    assert not hasattr(Secret(VALUE), "__dict__")
    assert Secret(VALUE).redact(f"key={VALUE}!") == "key=***!"


def test_a_placeholder_is_not_masked_in_ordinary_text() -> None:
    assert Secret("EMPTY").redact("the box is EMPTY") == "the box is EMPTY"


def test_equal_secrets_are_equal_without_being_the_text() -> None:
    assert Secret(VALUE) == Secret(VALUE)
    assert Secret(VALUE) != Secret("other")
    assert Secret(VALUE) != VALUE
    assert len({Secret(VALUE), Secret(VALUE)}) == 1


def test_a_secret_is_not_written_anywhere() -> None:
    with pytest.raises(TypeError, match="not pickled"):
        pickle.dumps(Secret(VALUE))
    with pytest.raises(TypeError, match="not pickled"):
        copy.copy(Secret(VALUE))


@pytest.mark.parametrize("value", ["", "  ", "a\nb", "a\rb"])
def test_a_value_that_is_no_secret_is_told_at_once(value: str) -> None:
    with pytest.raises(ValueError, match="a secret"):
        Secret(value)
