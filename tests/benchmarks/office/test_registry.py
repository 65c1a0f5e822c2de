from __future__ import annotations

import re

import pytest

from tutelage.benchmarks.office.app import ApiRefused, App, reads
from tutelage.benchmarks.office.catalogue import LOGIN_APPS, office_apis
from tutelage.benchmarks.office.desk import Desk
from tutelage.benchmarks.office.population import furnished
from tutelage.benchmarks.office.registry import Api, Caller, Registry

APIS = [api for apis in office_apis().apis.values() for api in apis.values()]


def test_there_are_at_least_seven_apps_and_eighty_apis() -> None:
    assert len(LOGIN_APPS) >= 7
    assert len(office_apis()) == len(APIS) >= 80


@pytest.mark.parametrize("api", APIS, ids=[f"{api.app}.{api.name}" for api in APIS])
def test_every_api_is_documented_in_full(api: Api) -> None:
    assert re.fullmatch(r"[A-Z].*\.", api.summary)
    assert api.returns
    assert all(parameter.description.endswith(".") for parameter in api.parameters)
    doc = api.doc()
    assert [one["name"] for one in doc["parameters"]] == [one.name for one in api.parameters]
    assert all("type" in one for one in doc["parameters"])


@pytest.mark.parametrize("api", APIS, ids=[f"{api.app}.{api.name}" for api in APIS])
def test_every_api_is_a_tool(api: Api) -> None:
    function = api.tool()["function"]
    assert re.fullmatch(r"[a-zA-Z0-9_-]{1,64}", function["name"])
    assert office_apis().named(function["name"]) is api
    schema = function["parameters"]
    assert set(schema["required"]) <= set(schema["properties"])
    assert ("access_token" in schema["properties"]) == api.needs_token


def test_tools_of_some_apps_are_a_part_of_all() -> None:
    some = office_apis().tools(["mail", "supervisor"])
    assert len(office_apis().tools()) == len(APIS) > len(some) > 10
    assert {tool["function"]["name"].split("__")[0] for tool in some} == {"mail", "supervisor"}


def test_effects_are_told_for_code_and_for_tools() -> None:
    effects = office_apis().effects()
    assert effects["apis.mail.send_mail"] == effects["mail__send_mail"] == "write"
    assert effects["apis.mail.search_mail"] == effects["mail__search_mail"] == "read"
    assert len(effects) == 2 * len(APIS)


@pytest.fixture
def caller() -> Caller:
    return Caller(office_apis(), Desk(furnished("0"), "test"), limit=20)


def _token(caller: Caller, app: str) -> object:
    accounts = caller.call("supervisor", "show_account_passwords", (), {})
    assert isinstance(accounts, list)
    found = next(one for one in accounts if one.pop("app_name") == app)
    answer = caller.call(app, "login", (), found)
    assert isinstance(answer, dict)
    return answer["access_token"]


def test_an_app_wants_its_own_token(caller: Caller) -> None:
    with pytest.raises(ApiRefused, match=r"401.*use mail.login"):
        caller.call("mail", "count_mail", (caller.desk.token("mail"),), {})
    with pytest.raises(ApiRefused, match="username or password is wrong"):
        caller.call("mail", "login", ("me", "secret"), {})
    token = _token(caller, "mail")
    assert caller.call("mail", "count_mail", (token,), {})
    with pytest.raises(ApiRefused, match="401"):
        caller.call("notes", "list_tags", (token,), {})


@pytest.mark.parametrize(
    ("positional", "named", "says"),
    [
        ((), {}, "username, password is missing"),
        (("a", "b", "c"), {}, "at most 2 arguments"),
        (("a",), {"username": "b"}, "username is given twice"),
        (("a",), {"pin": "b"}, "no argument 'pin'"),
        (("a", 1), {}, "password must be a string"),
        (("a", "\ud800"), {}, "password must be a string"),
    ],
)
def test_wrong_arguments_are_refused(
    caller: Caller, positional: tuple[object, ...], named: dict[str, object], says: str
) -> None:
    with pytest.raises(ApiRefused, match=says) as refused:
        caller.call("mail", "login", positional, named)
    assert refused.value.status == 422
    assert caller.calls == []


def test_types_are_checked(caller: Caller) -> None:
    token = _token(caller, "mail")
    for named in (
        {"mail_id": "1"},
        {"mail_id": True},
        {"mail_id": 2**70},
        {"mail_id": 1.5},
        {"mail_id": None},
    ):
        with pytest.raises(ApiRefused, match="mail_id must be a integer"):
            caller.call("mail", "show_mail", (token,), named)
    with pytest.raises(ApiRefused, match="recipients must be a list of strings"):
        caller.call("mail", "send_mail", (token, "a@b.example", "s", "b"), {})
    with pytest.raises(ApiRefused, match="recipients must be a list of strings"):
        caller.call("mail", "send_mail", (token, [1], "s", "b"), {})


def test_unknown_names_are_refused(caller: Caller) -> None:
    with pytest.raises(ApiRefused, match="no app 'games': use one of"):
        caller.call("games", "play", (), {})
    with pytest.raises(ApiRefused, match="mail has no API 'play'"):
        caller.call("mail", "play", (), {})
    with pytest.raises(ApiRefused, match="no app 'games'"):
        caller.call("api_docs", "show_api_descriptions", ("games",), {})


def test_calls_of_one_step_are_limited_and_counted_anew(caller: Caller) -> None:
    for _ in range(20):
        caller.call("supervisor", "show_today", (), {})
    with pytest.raises(ApiRefused, match="429"):
        caller.call("supervisor", "show_today", (), {})
    caller.begin()
    assert caller.call("supervisor", "show_today", (), {})
    assert caller.calls == [("supervisor", "show_today", {})]


def test_nothing_can_be_done_after_the_end(caller: Caller) -> None:
    caller.call("supervisor", "complete_task", (), {"answer": [1]})
    with pytest.raises(ApiRefused, match="409"):
        caller.call("supervisor", "show_today", (), {})


def test_a_long_description_and_optional_arguments_are_read() -> None:
    class Odd(App):
        """For this test."""

        name = "odd"
        description = "Odd."

        @reads
        def show(self, size: float | None = None, more: object = 1) -> None:
            """Shows
            something.

            Args:
                size: How
                    large.
                more: Anything.

            Returns:
                nothing
                at all
            """

    api = Registry([Odd]).apis["odd"]["show"]
    assert (api.summary, api.returns) == ("Shows something.", "nothing at all")
    assert api.parameters[0].description == "How large."
    schema = api.tool()["function"]["parameters"]["properties"]
    assert schema["size"] == {
        "description": "How large.",
        "type": ["number", "null"],
        "default": None,
    }
    assert "type" not in schema["more"]
    assert api.bound((None,), {"more": {"a": 1}}) == {"size": None, "more": {"a": 1}}
    assert api.bound((2,), {}) == {"size": 2.0}
