from __future__ import annotations

import sys
from importlib.metadata import EntryPoint, EntryPoints
from types import ModuleType

import pytest

from tutelage.cascade.canonical import registry
from tutelage.cascade.canonical.protocol import Canonicalizer
from tutelage.cascade.canonical.registry import (
    CanonicalOptions,
    canonicalizer_named,
    canonicalizer_names,
)
from tutelage.cascade.canonical.tool_canonicalizer import ExactText
from tutelage.runtime.errors import ConfigError


def own(options: CanonicalOptions) -> Canonicalizer:
    return ExactText()


@pytest.fixture
def plugin(monkeypatch: pytest.MonkeyPatch) -> str:
    module = ModuleType("a_plugin")
    module.own = own  # type: ignore[attr-defined]
    module.nothing = 5  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "a_plugin", module)
    return "a_plugin"


def test_the_forms_have_names() -> None:
    assert set(canonicalizer_names()) >= {
        *("text", "household", "tools", "code", "code-fingerprint", "json", "react")
    }


def test_a_form_of_ones_own_is_named_by_its_module(plugin: str) -> None:
    form = canonicalizer_named(f"{plugin}:own")
    assert form.past("As It Is") is not None
    assert form.past("As It Is") != form.past("as it is")


def test_a_form_of_an_installed_package_has_its_entry_point(
    plugin: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    points = EntryPoints([EntryPoint("mine", f"{plugin}:own", registry.ENTRY_POINT_GROUP)])

    def found(group: str, name: str = "mine") -> EntryPoints:
        return points.select(group=group, name=name)

    monkeypatch.setattr(registry, "entry_points", found)
    assert "mine" in canonicalizer_names()
    assert canonicalizer_named("mine").past("x") is not None


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("jsn", r"canonical = 'jsn' is unknown: did you mean 'json'\?"),
        ("what", "canonical = 'what' is unknown: choose one of code, "),
        ("a_plugin:gone", "canonical = 'a_plugin:gone' cannot be imported"),
        ("no_such:thing", "canonical = 'no_such:thing' cannot be imported"),
        (":x", "cannot be imported"),
        ("a_plugin:nothing", "is no factory"),
    ],
)
def test_a_name_that_leads_nowhere_is_a_config_error(plugin: str, name: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        canonicalizer_named(name)


def test_options_reach_the_form_that_can_use_them() -> None:
    options = CanonicalOptions(
        order_free={"": ["tags"], "f": ["x"]}, stateful=False, tools=["Search"]
    )
    answers = canonicalizer_named("json", options)
    assert answers.past('{"tags": [2, 1]}') == answers.past('{"tags": [1, 2]}')
    calls = '{"tool_calls":[{"name":"f","arguments":{"x":[%s]}}]}'
    assert answers.past(calls % "2,1") == answers.past(calls % "1,2")
    code = canonicalizer_named("code", options)
    assert code.past("x = f()\ng(x)") == code.past("y = f()\ng(y)")
    react = canonicalizer_named("react", options)
    assert react.past("Action: search[a]") == react.past("Action: Search[a]")
