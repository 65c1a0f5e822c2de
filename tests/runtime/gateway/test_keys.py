from __future__ import annotations

import base64
import dataclasses
import hashlib
import hmac
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tutelage.runtime.errors import ConfigError
from tutelage.runtime.gateway.caller import Caller
from tutelage.runtime.gateway.keys import (
    Key,
    KeyRights,
    Pepper,
    is_key_text,
    new_key_text,
    read_pepper,
    shown_key,
    shown_prefix,
)
from tutelage.runtime.secret import Secret

LONG_PEPPER = "sixteen characters or more"


def a_key(**fields: object) -> Key:
    plain = Key(
        id="key_0123456789abcdef",
        kind="client",
        tenant="acme",
        name="ci",
        rights=KeyRights(),
        created_at_s=100.0,
        created_by="operator:root",
    )
    return dataclasses.replace(plain, **fields)  # type: ignore[arg-type]


def test_a_key_holds_256_random_bits() -> None:
    asked: list[int] = []

    def ones(count: int) -> bytes:
        asked.append(count)
        return b"\xff" * count

    text = new_key_text("client", ones).reveal()
    assert asked == [32]
    assert text.startswith("tut-")
    assert base64.urlsafe_b64decode(text.removeprefix("tut-") + "=") == b"\xff" * 32
    assert new_key_text("admin", ones).reveal().startswith("tutadmin-")


def test_two_keys_are_never_alike() -> None:
    assert len({new_key_text("client").reveal() for _ in range(100)}) == 100


def test_what_is_shown_of_a_key_leaves_more_than_200_bits_unknown() -> None:
    for kind, length in (("client", 10), ("admin", 15)):
        text = new_key_text(kind)  # type: ignore[arg-type]
        shown = shown_prefix(text, kind)  # type: ignore[arg-type]
        assert text.reveal().startswith(shown)
        assert len(shown) == length
        assert (len(text.reveal()) - len(shown)) * 6 > 200


@pytest.mark.parametrize("kind", ["client", "admin"])
def test_a_new_key_has_the_form_of_a_key(kind: str) -> None:
    text = new_key_text(kind).reveal()  # type: ignore[arg-type]
    assert is_key_text(text)
    for other in (text[:-1], text + "A", text + "\n", " " + text, text.replace("-", "_", 1)):
        assert not is_key_text(other)
    assert not is_key_text(text[:-1] + "é")
    assert not is_key_text(text[:-1] + "٣")


@given(st.text(alphabet=string.printable + "é٣\0", max_size=200))
def test_nothing_else_has_the_form_of_a_key(text: str) -> None:
    allowed = set(string.ascii_letters + string.digits + "-_")
    prefix, _, rest = text.partition("-")
    well_formed = prefix in ("tut", "tutadmin") and len(rest) == 43 and set(rest) <= allowed
    assert is_key_text(text) == well_formed


def test_digests_are_hmacs_under_a_key_of_their_own() -> None:
    pepper = Pepper(Secret(LONG_PEPPER))
    extracted = hmac.new(b"tutelage", LONG_PEPPER.encode(), hashlib.sha256).digest()
    derived = hmac.new(extracted, b"virtual keys\x01", hashlib.sha256).digest()
    assert pepper.digest("tut-x") == hmac.new(derived, b"tut-x", hashlib.sha256).hexdigest()
    assert pepper.derived("audit log") != pepper.derived("virtual keys")
    assert Pepper(Secret(LONG_PEPPER + "!")).digest("tut-x") != pepper.digest("tut-x")


def test_a_pepper_comes_from_the_environment() -> None:
    pepper = read_pepper({"PEPPER": f" {LONG_PEPPER}\n"}, "PEPPER")
    assert pepper.digest("a") == Pepper(Secret(LONG_PEPPER)).digest("a")


@pytest.mark.parametrize(
    ("value", "hint"),
    [
        (None, "PEPPER is not set"),
        ("  ", "PEPPER is not set"),
        ("short", "PEPPER: the pepper has fewer than 16"),
        ("a line\nand another one", "PEPPER: a secret holds a line break"),
        ("a value that is no text \udcff", "PEPPER: "),
    ],
)
def test_a_pepper_that_is_not_usable_names_its_variable(value: str | None, hint: str) -> None:
    environment = {} if value is None else {"PEPPER": value}
    with pytest.raises(ConfigError, match=hint) as caught:
        read_pepper(environment, "PEPPER")
    assert value is None or not value.strip() or value not in str(caught.value)


def test_a_client_key_becomes_a_caller_with_its_limits() -> None:
    rights = KeyRights(frozenset({"gpt"}), 1, 2, 3, 4.0, 5.0)
    assert a_key(rights=rights).caller() == Caller(
        "acme", "key_0123456789abcdef", frozenset({"gpt"}), 1, 2, 3, 4.0, 5.0
    )


@pytest.mark.parametrize("fields", [{"kind": "admin"}, {"tenant": None}])
def test_no_other_key_becomes_a_caller(fields: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="opens the administration"):
        a_key(**fields).caller()


def test_a_key_ends_when_it_expires_or_is_revoked() -> None:
    assert a_key().is_usable(1e12)
    assert a_key(expires_at_s=200.0).is_usable(199.9)
    assert not a_key(expires_at_s=200.0).is_usable(200.0)
    assert not a_key(revoked_at_s=150.0).is_usable(0.0)


def test_a_shown_key_is_flat_and_sorted() -> None:
    shown = shown_key(a_key(rights=KeyRights(aliases=frozenset({"b", "a"})), prefixes=("tut-abc",)))
    assert shown["aliases"] == ["a", "b"]
    assert shown["prefixes"] == ("tut-abc",)
    assert shown["requests_per_minute"] is None
    assert "rights" not in shown
    assert shown_key(a_key())["aliases"] is None


ALL = KeyRights(frozenset({"a", "b"}), 10, 100, 5, 1.0, 60.0)


@pytest.mark.parametrize(
    ("changes", "excess"),
    [
        ({}, None),
        ({"aliases": frozenset({"a"})}, None),
        ({"aliases": frozenset({"a", "c"})}, "aliases"),
        ({"aliases": None}, "aliases"),
        ({"requests_per_minute": 9}, None),
        ({"requests_per_minute": 11}, "requests_per_minute"),
        ({"requests_per_minute": None}, "requests_per_minute"),
        ({"tokens_per_minute": 101}, "tokens_per_minute"),
        ({"parallel_requests": 6}, "parallel_requests"),
        ({"budget_usd": 1.1}, "budget_usd"),
        ({"budget_usd": None}, "budget_usd"),
        ({"budget_period_s": 59.0}, "budget_period_s"),
        ({"budget_period_s": None}, None),
        ({"budget_period_s": 61.0}, None),
    ],
)
def test_rights_beyond_a_ceiling_are_named(changes: dict[str, object], excess: str | None) -> None:
    assert dataclasses.replace(ALL, **changes).excess(ALL) == excess  # type: ignore[arg-type]


def test_nothing_goes_beyond_no_limits_except_to_a_writer() -> None:
    assert KeyRights().excess(KeyRights()) is None
    assert ALL.excess(KeyRights()) is None
    assert KeyRights(writer=True).excess(KeyRights(writer=False)) == "writer"
    assert KeyRights(writer=False).excess(KeyRights(writer=True)) is None
    renewing = KeyRights(budget_usd=1.0, budget_period_s=60.0)
    assert renewing.excess(KeyRights(budget_usd=1.0)) == "budget_period_s"


RIGHTS = st.builds(
    KeyRights,
    st.none() | st.frozensets(st.sampled_from("abc"), max_size=3),
    *[st.none() | st.integers(1, 3)] * 3,
    st.none() | st.sampled_from([0.0, 1.0, 2.0]),
    st.none() | st.sampled_from([1.0, 2.0]),
    st.booleans(),
)


@given(RIGHTS, RIGHTS, RIGHTS)
def test_rights_within_rights_within_a_ceiling_are_within_it(
    child: KeyRights, parent: KeyRights, grandparent: KeyRights
) -> None:
    assert child.excess(child) is None
    if child.excess(parent) is None and parent.excess(grandparent) is None:
        assert child.excess(grandparent) is None
