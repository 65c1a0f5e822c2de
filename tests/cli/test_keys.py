from __future__ import annotations

import json
from typing import Any

import pytest

PEPPER = "a pepper of the tests, long enough"


@pytest.fixture(autouse=True)
def pepper(tutelage: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Set after the environment was emptied."""
    monkeypatch.setenv("TUTELAGE_PEPPER", PEPPER)


def made(tutelage: Any, *arguments: str) -> Any:
    return tutelage("keys", "create", "ci", "--json", *arguments).json


def test_a_key_is_printed_once(tutelage: Any) -> None:
    ran = tutelage("keys", "create", "ci", "--budget-usd", "2.5", "--budget-period-s", "3600")
    first, text = ran.out.splitlines()

    assert ran.code == 0
    assert first.endswith(": ci, 2.5 USD in 3600 s")
    assert text.startswith("tut-")
    assert ran.line == "keep it now: it is shown this once"
    table = tutelage("keys", "list")
    assert text[:10] in table.out
    assert text not in table.out
    assert text not in tutelage("keys", "list", "--json").out


def test_rights_are_what_was_asked_for(tutelage: Any) -> None:
    key = made(
        tutelage,
        *("--tenant", "acme", "--alias", "gpt", "--alias", "mini", "--no-writer"),
        *("--requests-per-minute", "9", "--tokens-per-minute", "99"),
        *("--parallel-requests", "3", "--expires-in-s", "60"),
    )

    assert (key["kind"], key["tenant"], key["writer"]) == ("client", "acme", False)
    assert key["aliases"] == ["gpt", "mini"]
    assert key["requests_per_minute"] == 9
    assert key["tokens_per_minute"] == 99
    assert key["parallel_requests"] == 3
    assert key["expires_at_s"] == pytest.approx(key["created_at_s"] + 60)
    assert key["created_by"].startswith("operator:")
    row = tutelage("keys", "list").out
    assert "9 requests a minute, 99 tokens a minute, 3 at once, models gpt mini" in row
    assert "active until" in row


def test_a_key_is_of_the_configured_tenant_and_an_admins_of_all(tutelage: Any) -> None:
    client = made(tutelage, "--set", "tenant=ours")
    admin = made(tutelage, "--admin")
    local = made(tutelage, "--admin", "--tenant", "acme")

    assert (client["tenant"], client["kind"]) == ("ours", "client")
    assert (admin["tenant"], admin["kind"]) == (None, "admin")
    assert admin["key"].startswith("tutadmin-")
    assert local["tenant"] == "acme"
    listed = tutelage("keys", "list", "--tenant", "acme", "--json").json
    assert [key["id"] for key in listed] == [local["id"]]


@pytest.mark.parametrize("error", [KeyError("getpwuid(): uid not found: 12345"), OSError("none")])
def test_whoever_has_no_name_here_is_noted_by_number(
    error: Exception, tutelage: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def nameless() -> str:
        raise error

    # Python before 3.13 raises the first, later ones the second.
    monkeypatch.setattr("getpass.getuser", nameless)
    monkeypatch.setattr("os.getuid", lambda: 12345)

    assert made(tutelage)["created_by"] == "operator:uid-12345"


def test_a_key_is_rotated_and_revoked(tutelage: Any) -> None:
    key = made(tutelage)

    rotated = tutelage("keys", "rotate", key["id"], "--overlap-s", "60")
    again = tutelage("keys", "rotate", key["id"], "--json").json
    assert rotated.out.splitlines()[1].startswith("tut-")
    assert again["id"] == key["id"]
    assert len({key["key"], rotated.out.splitlines()[1], again["key"]}) == 3
    assert len(again["prefixes"]) == 3

    revoked = tutelage("keys", "revoke", key["id"])
    assert (revoked.code, revoked.out) == (0, f"revoked {key['id']}\n")
    assert tutelage("keys", "revoke", key["id"], "--json").json["revoked_at_s"] is not None
    assert tutelage("keys", "list", "--json").json == []
    assert "revoked 2" in tutelage("keys", "list", "--all").out
    ended = tutelage("keys", "rotate", key["id"])
    assert ended.code == 1
    assert ended.line.startswith(f"error: key {key['id']} is revoked or expired")


def test_an_empty_list_says_how_to_fill_it(tutelage: Any) -> None:
    assert tutelage("keys", "list").out == "no keys yet: `tutelage keys create NAME` makes one\n"
    assert tutelage("keys", "list", "--json").out == "[]\n"


@pytest.mark.parametrize("verb", ["rotate", "revoke"])
def test_an_unknown_key_says_where_to_look(tutelage: Any, verb: str) -> None:
    ran = tutelage("keys", verb, "nope")

    assert ran.code == 1
    assert ran.line == "error: there is no key 'nope': `tutelage keys list --all`"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--budget-usd", "-1"), "error: budget-usd = -1.0: "),
        (("--requests-per-minute", "0"), "error: requests-per-minute = 0: "),
        (("--tenant", "a\nb"), "error: tenant = 'a\\nb': "),
        (("--budget-usd", "nan"), "error: budget-usd = nan: "),
    ],
)
def test_a_bad_value_is_one_line(tutelage: Any, arguments: tuple[str, ...], words: str) -> None:
    ran = tutelage("keys", "create", "ci", *arguments)

    assert ran.code == 2
    assert ran.line.startswith(words)


def test_a_period_without_a_budget_is_refused(tutelage: Any) -> None:
    ran = tutelage("keys", "create", "ci", "--budget-period-s", "60")

    assert ran.code == 1
    assert "give budget_usd" in ran.line


def test_a_missing_pepper_says_how_to_make_one(
    tutelage: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TUTELAGE_PEPPER")

    ran = tutelage("keys", "create", "ci")

    assert ran.code == 2
    assert ran.line.startswith("error: TUTELAGE_PEPPER is not set")
    assert "openssl rand -hex 32" in ran.line


def test_the_variable_of_the_pepper_is_configured(
    tutelage: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TUTELAGE_PEPPER")
    monkeypatch.setenv("MY_PEPPER", PEPPER)

    ran = tutelage("keys", "list", "--json", "--set", "gateway.pepper_env=MY_PEPPER")

    assert json.loads(ran.out) == []
