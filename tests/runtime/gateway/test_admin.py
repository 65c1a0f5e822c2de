from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine, event
from sqlalchemy.exc import OperationalError

from tutelage.runtime.config import Config
from tutelage.runtime.errors import ConfigError, ModelError, PriceUnknown
from tutelage.runtime.gateway.admin import BODY_BYTES, Administration, shown_config
from tutelage.runtime.gateway.admission import Admission
from tutelage.runtime.gateway.key_store import IssuedKey, Operator
from tutelage.runtime.gateway.keyring import Keyring
from tutelage.runtime.gateway.keys import Pepper
from tutelage.runtime.gateway.orders import KeyOrder
from tutelage.runtime.store.database import open_engine

ROOT = Operator("root")
ROUTES = (
    ("POST", "/admin/keys"),
    ("GET", "/admin/keys"),
    ("GET", "/admin/keys/key_0123456789abcdef"),
    ("DELETE", "/admin/keys/key_0123456789abcdef"),
    ("POST", "/admin/keys/key_0123456789abcdef/rotate"),
    ("GET", "/admin/keys/key_0123456789abcdef/budget"),
    ("GET", "/admin/audit"),
    ("GET", "/admin/audit/verify"),
    ("POST", "/admin/reload"),
    ("GET", "/admin/config"),
)


class Reload:
    """Counts, or fails as it is told."""

    def __init__(self) -> None:
        self.calls = 0
        self.problem: Exception | None = None

    async def __call__(self) -> None:
        self.calls += 1
        if self.problem is not None:
            raise self.problem


class Admin:
    """The administration, asked over its wire."""

    def __init__(self, app: Administration, text: str) -> None:
        # As a server would: what was raised after the answer is the server's to log.
        transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
        self.client = httpx.AsyncClient(transport=transport, base_url="http://admin")
        self.headers = {"authorization": f"Bearer {text}"}

    async def __call__(self, method: str, path: str, **options: Any) -> httpx.Response:
        return await self.client.request(method, path, **{"headers": self.headers, **options})


@pytest.fixture
def reload() -> Reload:
    return Reload()


@pytest.fixture
async def boss(keyring: Keyring) -> IssuedKey:
    return await keyring.create(KeyOrder(name="boss", kind="admin"), ROOT)


@pytest.fixture
async def admin(
    keyring: Keyring, admission: Admission, reload: Reload, boss: IssuedKey
) -> AsyncIterator[Admin]:
    config = Config.model_validate({"store": {"url": "postgresql://u:hidden@h/x"}})
    app = Administration(keyring, admission, reload=reload, config=lambda: shown_config(config))
    made = Admin(app, boss.text.reveal())
    yield made
    await made.client.aclose()


def problem(response: httpx.Response, status: int) -> Mapping[str, Any]:
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/json"
    assert "Traceback" not in response.text
    error = response.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    return error  # type: ignore[no-any-return]


async def test_a_key_is_made_shown_listed_rotated_and_revoked(
    admin: Admin, keyring: Keyring
) -> None:
    made = await admin(
        "POST", "/admin/keys", json={"name": "ci", "tenant": "acme", "budget_usd": 2}
    )
    assert made.status_code == 201
    assert made.headers["cache-control"] == "no-store"
    body = made.json()
    text, id = body.pop("key"), body["id"]
    assert (await keyring.identify(text)).key_id == id
    assert body["budget_usd"] == 2.0
    assert text.startswith(body["prefixes"][0])

    shown = await admin("GET", f"/admin/keys/{id}")
    assert shown.json() == body
    listed = await admin("GET", "/admin/keys", params={"tenant": "acme"})
    assert listed.json() == {"keys": [body]}
    assert len((await admin("GET", "/admin/keys")).json()["keys"]) == 2

    rotated = await admin("POST", f"/admin/keys/{id}/rotate", json={"overlap_s": 10})
    assert rotated.status_code == 200
    again = rotated.json()["key"]
    assert (await keyring.identify(again)).key_id == id
    assert (await admin("POST", f"/admin/keys/{id}/rotate")).status_code == 200

    revoked = await admin("DELETE", f"/admin/keys/{id}")
    assert revoked.json()["revoked_at_s"] is not None
    problem(await admin("POST", f"/admin/keys/{id}/rotate"), 400)
    for response in (shown, listed, revoked):
        assert text not in response.text
        assert again not in response.text


async def test_the_budget_of_a_key_is_explained(
    admin: Admin, admission: Admission, keyring: Keyring, clock: Any
) -> None:
    issued = await keyring.create(
        KeyOrder(name="ci", tenant="acme", budget_usd=1.0, budget_period_s=60.0), ROOT
    )
    await admission.admit(issued.key.caller(), estimate_usd=0.25, estimate_tokens=1)
    found = (await admin("GET", f"/admin/keys/{issued.key.id}/budget")).json()
    assert found == {
        "id": issued.key.id,
        "spent_usd": 0.0,
        "reserved_usd": 0.25,
        "in_flight": 1,
        "budget_usd": 1.0,
        "left_usd": 0.75,
        "period_started_at_s": clock.now_s,
        "renews_at_s": clock.now_s + 60.0,
        "requests_left": None,
        "tokens_left": None,
    }


async def test_a_key_of_the_administration_has_no_budget(admin: Admin, boss: IssuedKey) -> None:
    assert (
        "spends nothing"
        in problem(await admin("GET", f"/admin/keys/{boss.key.id}/budget"), 400)["message"]
    )


@pytest.mark.parametrize(("method", "path"), ROUTES)
async def test_nothing_opens_without_a_key_of_the_administration(
    admin: Admin, keyring: Keyring, reload: Reload, method: str, path: str
) -> None:
    client = await keyring.create(KeyOrder(name="ci", tenant="acme"), ROOT)
    for headers in (
        {},
        {"authorization": ""},
        {"authorization": "Bearer "},
        {"authorization": "Bearer tutadmin-" + "A" * 43},
        {"authorization": "Bearer ' OR 1=1 --"},
        {"authorization": "Bearer " + "tutadmin-" * 5000},
        {"authorization": "Bearer tutadmin-é".encode()},
        {"authorization": admin.headers["authorization"].replace("Bearer", "Basic")},
        {"x-api-key": admin.headers["authorization"].removeprefix("Bearer ")},
    ):
        refused = await admin(method, path, headers=headers, content=b"{")
        problem(refused, 401)
        assert refused.headers["www-authenticate"] == "Bearer"
    headers = {"authorization": f"Bearer {client.text.reveal()}"}
    problem(await admin(method, path, headers=headers), 403)
    assert reload.calls == 0


async def test_a_revoked_or_expired_key_opens_nothing(
    admin: Admin, keyring: Keyring, boss: IssuedKey, clock: Any
) -> None:
    short = await keyring.create(KeyOrder(name="x", kind="admin", expires_in_s=9), ROOT)
    headers = {"authorization": f"bearer {short.text.reveal()}"}
    assert (await admin("GET", "/admin/keys", headers=headers)).status_code == 200
    clock.advance(9)
    problem(await admin("GET", "/admin/keys", headers=headers), 401)
    await keyring.revoke(boss.key.id, ROOT)
    problem(await admin("GET", "/admin/keys"), 401)


async def test_no_page_of_another_origin_may_ask(admin: Admin) -> None:
    headers = {**admin.headers, "origin": "https://evil.example"}
    for method in ("OPTIONS", "GET"):
        response = await admin(
            method, "/admin/keys", headers={**headers, "access-control-request-method": "POST"}
        )
        assert not [name for name in response.headers if name.startswith("access-control")]
    problem(await admin("OPTIONS", "/admin/keys"), 405)


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/", 404),
        ("GET", "/admin", 404),
        ("GET", "/v1/models", 404),
        ("POST", "/v1/chat/completions", 404),
        ("GET", "/admin/keys/key_0123456789abcdef/other", 404),
        ("PUT", "/admin/keys", 405),
        ("POST", "/admin/config", 405),
        ("GET", "/admin/keys/key_0123456789abcdef", 404),
        ("DELETE", "/admin/keys/key_0123456789abcdef", 404),
        ("POST", "/admin/keys/key_0123456789abcdef/rotate", 404),
        ("GET", "/admin/keys/key_0123456789abcdef/budget", 404),
        ("GET", "/admin/keys/%00", 404),
        ("GET", "/admin/keys/key_%F0%9F%98%80", 404),
        ("DELETE", "/admin/keys/' OR 1=1", 404),
        ("GET", "/admin/keys/" + "k" * 5000, 404),
    ],
)
async def test_what_is_not_there_is_said_in_json(
    admin: Admin, method: str, path: str, status: int
) -> None:
    problem(await admin(method, path), status)


@pytest.mark.parametrize(
    ("body", "param"),
    [
        (b"", None),
        (b"{", None),
        (b"[]", None),
        (b"\xff", None),
        (b"[" * 20_000, None),
        (b'{"name": "\\ud800", "tenant": "a"}', None),
        (b'{"tenant": "a"}', "name"),
        (b'{"name": "", "tenant": "a"}', "name"),
        (b'{"name": "a\\u0000b", "tenant": "a"}', "name"),
        (b'{"name": "x", "tenant": "a\\nb"}', "tenant"),
        (b'{"name": "x"}', "tenant"),
        (b'{"name": "x", "tenant": "a", "owner": "me"}', "owner"),
        (b'{"name": "x", "tenant": "a", "kind": "root"}', "kind"),
        (b'{"name": "x", "tenant": "a", "budget_usd": -1}', "budget_usd"),
        (b'{"name": "x", "tenant": "a", "budget_usd": NaN}', None),
        (b'{"name": "x", "tenant": "a", "budget_usd": 1e999}', None),
        (b'{"name": "x", "tenant": "a", "budget_period_s": 5}', "budget_period_s"),
        (b'{"name": "x", "tenant": "a", "requests_per_minute": 0}', "requests_per_minute"),
        (b'{"name": "x", "tenant": "a", "requests_per_minute": 1e30}', "requests_per_minute"),
        (b'{"name": "x", "tenant": "a", "aliases": []}', "aliases"),
        (b'{"name": "x", "tenant": "a", "aliases": "gpt"}', "aliases"),
        (b'{"name": "x", "tenant": "a", "expires_in_s": 0}', "expires_in_s"),
    ],
)
async def test_a_bad_order_is_refused_with_its_field(
    admin: Admin, body: bytes, param: str | None
) -> None:
    found = problem(await admin("POST", "/admin/keys", content=body), 400)
    assert found["type"] == "invalid_request_error"
    if param is not None:
        assert found["param"] == param


async def test_a_large_body_is_not_read(admin: Admin) -> None:
    body = b'{"name": "' + b"x" * BODY_BYTES + b'"}'
    for path in ("/admin/keys", "/admin/keys/key_0123456789abcdef/rotate", "/admin/reload"):
        problem(await admin("POST", path, content=body), 413)


@pytest.mark.parametrize(
    ("path", "query"),
    [
        ("/admin/keys", "tenant=%00"),
        ("/admin/keys", "owner=me"),
        ("/admin/audit", "limit=0"),
        ("/admin/audit", "limit=x"),
        ("/admin/audit", "after=-1"),
        ("/admin/audit", "after=99999999999999999999999"),
        ("/admin/audit/verify", "entries=1"),
        ("/admin/audit/verify", "entries=1&head=zz"),
    ],
)
async def test_a_bad_query_is_refused(admin: Admin, path: str, query: str) -> None:
    problem(await admin("GET", f"{path}?{query}"), 400)


async def test_an_admin_of_a_tenant_stays_there(admin: Admin, keyring: Keyring) -> None:
    local = await keyring.create(KeyOrder(name="l", kind="admin", tenant="acme"), ROOT)
    other = await keyring.create(KeyOrder(name="o", tenant="other"), ROOT)
    headers = {"authorization": f"Bearer {local.text.reveal()}"}

    made = await admin("POST", "/admin/keys", headers=headers, json={"name": "n"})
    assert made.json()["tenant"] == "acme"
    problem(
        await admin("POST", "/admin/keys", headers=headers, json={"name": "n", "tenant": "other"}),
        403,
    )
    for method, tail in (("GET", ""), ("DELETE", ""), ("POST", "/rotate"), ("GET", "/budget")):
        path = f"/admin/keys/{other.key.id}{tail}"
        problem(await admin(method, path, headers=headers), 404)
    for method, path in ROUTES[6:]:
        problem(await admin(method, path, headers=headers), 403)
    listed = (await admin("GET", "/admin/keys", headers=headers)).json()["keys"]
    assert {key["tenant"] for key in listed} == {"acme"}


async def test_the_audit_log_is_read_and_checked(admin: Admin, boss: IssuedKey) -> None:
    await admin("POST", "/admin/keys", json={"name": "ci", "tenant": "acme"})
    entries = (await admin("GET", "/admin/audit", params={"after": 1})).json()["entries"]
    assert [(entry["actor"], entry["action"]) for entry in entries] == [
        (f"key:{boss.key.id}", "key.create")
    ]
    verdict = (await admin("GET", "/admin/audit/verify")).json()
    assert verdict == {"ok": True, "entries": 2, "head": entries[0]["digest"], "problem": None}
    known = {"entries": 2, "head": "0" * 64}
    later = (await admin("GET", "/admin/audit/verify", params=known)).json()
    assert (later["ok"], later["problem"]) == (False, "entry 2 is another one than it was")


async def test_a_reload_is_done_and_noted(
    admin: Admin, reload: Reload, keyring: Keyring, boss: IssuedKey
) -> None:
    done = await admin("POST", "/admin/reload")
    assert (done.status_code, done.json()) == (200, {"reloaded": True})
    assert reload.calls == 1
    last = (await keyring.audit.entries())[-1]
    assert (last.actor, last.action) == (f"key:{boss.key.id}", "config.reload")
    problem(await admin("POST", "/admin/reload", json={"path": "/etc/passwd"}), 400)
    assert reload.calls == 1


@pytest.mark.parametrize("kind", [ConfigError, PriceUnknown])
async def test_a_bad_file_is_named_and_the_gateway_goes_on(
    admin: Admin, reload: Reload, keyring: Keyring, kind: type[Exception]
) -> None:
    reload.problem = kind("tutelage.toml is not valid TOML: expected '=' (at line 3)")
    found = problem(await admin("POST", "/admin/reload"), 400)
    assert (found["code"], "at line 3" in found["message"]) == ("bad_config", True)
    entries = await keyring.audit.entries()
    assert [entry.action for entry in entries][-2:] == ["config.reload", "config.reload_refused"]
    assert "at line 3" in entries[-1].detail["problem"]
    reload.problem = None
    assert (await admin("POST", "/admin/reload")).status_code == 200


async def test_the_configuration_is_shown_without_secrets(admin: Admin) -> None:
    shown = await admin("GET", "/admin/config")
    assert shown.status_code == 200
    assert shown.json()["gateway"]["pepper_env"] == "TUTELAGE_PEPPER"
    assert "hidden" not in shown.text


@pytest.mark.parametrize(
    ("url", "masked"),
    [
        ("http://h:1/v1", "http://h:1/v1"),
        ("http://u:hidden@h/v1", "http://***@h/v1"),
        ("http://hidden@h/v1?key=hidden&b=hidden#x", "http://***@h/v1?key=***&b=***"),
        ("postgresql://u:hid/den@h/x?password=hidden", "postgresql://***@h/x?password=***"),
        ("postgresql://u:hid@den@h/x", "postgresql://***@h/x"),
        ("sqlite:///a.sqlite", "sqlite:///a.sqlite"),
    ],
)
def test_secrets_in_urls_are_masked(url: str, masked: str) -> None:
    config = Config.model_validate({"upstreams": {"a": {"base_url": url}}, "store": {"url": url}})
    shown = shown_config(config)
    assert shown["upstreams"]["a"]["base_url"] == masked
    assert shown["store"]["url"] == masked


async def test_an_outage_is_said_without_the_databases_words(
    admin: Admin, engine: Engine, keyring: Keyring, reload: Reload, ticks: Any
) -> None:
    await admin("GET", "/admin/keys")

    def refuse(*_: Any) -> None:
        raise OperationalError("SELECT", {}, Exception("host db.internal is gone"))

    event.listen(engine, "before_cursor_execute", refuse)
    for method, path in ROUTES[:-1]:
        if path.endswith("config"):
            continue
        options = {"json": {"name": "n", "tenant": "a"}} if path == "/admin/keys" else {}
        if method == "GET":
            options = {}
        response = await admin(method, path, **options)
        assert "db.internal" not in response.text
        problem(response, 503)
    assert reload.calls == 0
    ticks.advance(31)
    problem(await admin("GET", "/admin/config"), 503)
    event.remove(engine, "before_cursor_execute", refuse)


@pytest.mark.parametrize("fault", [ModelError("inner words"), ZeroDivisionError("inner words")])
async def test_our_own_fault_shows_nothing(
    admin: Admin, keyring: Keyring, fault: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(*_: object) -> None:
        raise fault

    monkeypatch.setattr(keyring, "keys", fail)
    found = problem(await admin("GET", "/admin/keys"), 500)
    assert "inner words" not in found["message"]


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=5,
)
FIELDS = st.sampled_from(sorted(KeyOrder.model_fields))


@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=80
)
@given(
    st.sampled_from([path for method, path in ROUTES if method == "POST"]),
    st.binary(max_size=40)
    | st.dictionaries(FIELDS, JSON_VALUES).map(lambda body: json.dumps(body).encode()),
)
def test_no_body_is_a_fault_of_ours(
    sqlite_url: str, pepper: Pepper, path: str, body: bytes
) -> None:
    import asyncio

    async def ask() -> int:
        engine = open_engine(sqlite_url)
        async with Keyring(engine, pepper) as keyring, Admission(engine) as admission:
            boss = await keyring.create(KeyOrder(name="boss", kind="admin"), ROOT)
            app = Administration(keyring, admission, reload=Reload(), config=dict)
            admin = Admin(app, boss.text.reveal())
            response = await admin("POST", path, content=body)
            await admin.client.aclose()
        engine.dispose()
        return response.status_code

    assert asyncio.run(ask()) in (200, 201, 400, 404)
