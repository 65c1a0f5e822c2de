"""Which requests a gateway without keys takes for a web page's."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tutelage.runtime.errors import Forbidden
from tutelage.runtime.gateway.visitors import LocalVisitors

Headers = list[tuple[bytes, bytes]]

LOCAL = [
    b"localhost", b"LocalHost:8080", b"localhost.", b"ui.localhost:3000", b"127.0.0.1",
    b"127.0.0.1:8080", b"127.8.9.10:1", b"[::1]", b"[::1]:8080", b"[::ffff:127.0.0.1]",
    b"[0:0:0:0:0:0:0:1]:65535",
]  # fmt: skip
FOREIGN = [
    b"evil.example", b"evil.example:8080", b"localhost.evil.example", b"evil-localhost",
    b"notlocalhost", b"127.0.0.1.evil.example", b"128.0.0.1", b"0.0.0.0:8080", b"10.0.0.7", b"[::]",
    b"[2001:db8::1]:8080", b"::1", b"[::1", b"::1]", b"localhost:", b"localhost:x",
    b"localhost:123456", b"localhost@evil.example", b"evil.example@localhost", b"localhost/x",
    b"localhost evil.example", b"localhost,evil.example", b"2130706433", b"0x7f.0.0.1", b"127.1",
    b"", b".", b"..", b"localhost..", b"[localhost]:1", b"\xff", b"localhost\xa0.evil",
]  # fmt: skip


def is_let_in(headers: Headers, *hosts: str) -> bool:
    try:
        LocalVisitors(hosts).check(headers)
    except Forbidden:
        return False
    return True


@pytest.mark.parametrize("value", LOCAL)
def test_this_machine_is_a_host_and_an_origin(value: bytes) -> None:
    assert is_let_in([(b"host", value)])
    for scheme in (b"http://", b"https://", b"tauri://"):
        assert is_let_in([(b"host", b"localhost"), (b"origin", scheme + value)])


@pytest.mark.parametrize("value", FOREIGN)
def test_no_other_machine_is(value: bytes) -> None:
    assert not is_let_in([(b"host", value)])
    assert not is_let_in([(b"host", b"localhost"), (b"origin", b"http://" + value)])


@pytest.mark.parametrize(
    "value",
    [b"null", b"", b"localhost", b"//localhost", b"http:localhost", b"http://localhost/x",
     b"file://", b"http://localhost http://evil.example", b"://localhost", b"chrome-extension://a"],
)  # fmt: skip
def test_what_is_no_origin_of_this_machine_is_refused(value: bytes) -> None:
    assert not is_let_in([(b"host", b"localhost"), (b"origin", value)])


def test_a_program_that_names_no_host_is_let_in() -> None:
    assert is_let_in([(b"user-agent", b"curl/8"), (b"accept", b"*/*")])


def test_a_second_header_hides_no_first_one() -> None:
    for name, good, bad in (
        (b"host", b"localhost", b"evil.example"),
        (b"origin", b"http://localhost", b"http://evil.example"),
    ):
        assert not is_let_in([(name, good), (name, bad)])
        assert not is_let_in([(name, bad), (name, good)])


@pytest.mark.parametrize(
    ("site", "origin", "let_in"),
    [
        (b"cross-site", None, False),
        (b"Cross-Site ", None, False),
        # Another port or name of this machine, which says so itself.
        (b"cross-site", b"http://127.0.0.1:3000", True),
        (b"cross-site", b"http://evil.example", False),
        (b"same-origin", None, True),
        (b"same-site", None, True),
        (b"none", None, True),
        (b"same-origin", b"http://evil.example", False),
    ],
)
def test_where_a_page_names_no_origin_its_browser_says_if_it_is_foreign(
    site: bytes, origin: bytes | None, let_in: bool
) -> None:
    headers = [(b"host", b"localhost"), (b"sec-fetch-site", site)]
    if origin is not None:
        headers.append((b"origin", origin))
    assert is_let_in(headers) is let_in
    assert is_let_in(headers[::-1]) is let_in


def test_names_of_the_configuration_are_this_machine_too() -> None:
    hosts = ("Host.Docker.Internal", "[2001:db8::1]")
    for value in (b"host.docker.internal:8080", b"HOST.docker.internal", b"[2001:db8::1]:80"):
        assert is_let_in([(b"host", value)], *hosts)
        assert is_let_in([(b"origin", b"http://" + value)], *hosts)
    for value in (b"x.host.docker.internal", b"docker.internal", b"[2001:db8::2]"):
        assert not is_let_in([(b"host", value)], *hosts)


def test_a_refusal_is_one_line_that_says_what_to_do() -> None:
    value = b"http://evil.example/\r\n\x1b[31m" + b"x" * 500
    with pytest.raises(Forbidden) as caught:
        LocalVisitors().check([(b"origin", value)])
    text = str(caught.value)
    assert text.isprintable()
    assert len(text) < 400
    assert text.startswith("Origin: http://evil.example")
    assert "gateway.hosts" in text
    assert "--open" in text


def test_what_was_let_in_once_is_let_in_again_and_nothing_else_is() -> None:
    visitors = LocalVisitors()
    for _ in range(3):
        visitors.check([(b"host", b"localhost:8080"), (b"origin", b"http://localhost")])
        # The same text under another name is not the same.
        with pytest.raises(Forbidden):
            visitors.check([(b"origin", b"localhost:8080")])


def test_many_names_are_remembered_only_as_far_as_they_fit() -> None:
    visitors = LocalVisitors()
    for port in range(1000):
        visitors.check([(b"host", b"localhost:%d" % port)])
    with pytest.raises(Forbidden):
        visitors.check([(b"host", b"evil.example")])


@given(
    st.lists(
        st.tuples(
            st.sampled_from([b"host", b"origin", b"sec-fetch-site", b"accept"]),
            st.one_of(st.binary(max_size=40), st.sampled_from(LOCAL + FOREIGN)),
        ),
        max_size=6,
    )
)
def test_whatever_the_headers_are_they_are_let_in_or_refused(headers: Headers) -> None:
    visitors = LocalVisitors()
    found = []
    for _ in range(2):
        try:
            visitors.check(headers)
            found.append(True)
        except Forbidden:
            found.append(False)
    assert found[0] is found[1]
    if any(name == b"host" and value in FOREIGN for name, value in headers):
        assert not found[0]


def test_a_known_value_is_not_read_again(monkeypatch: pytest.MonkeyPatch) -> None:
    visitors = LocalVisitors()
    headers = [(b"host", b"127.0.0.1:8080"), (b"accept", b"*/*")]
    visitors.check(headers)

    def read(*_: object) -> bool:
        raise AssertionError("it was known")

    monkeypatch.setattr(LocalVisitors, "_is_local", read)
    visitors.check(headers)
    with pytest.raises(AssertionError, match="it was known"):
        visitors.check([(b"host", b"127.0.0.1:8081")])
