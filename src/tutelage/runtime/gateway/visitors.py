"""Who may come to a gateway that asks for no key: programs of this machine, not web pages."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Collection, Iterable
from typing import Final

from tutelage.runtime.errors import Forbidden

_AUTHORITY = re.compile(r"(\[[0-9a-f:.]+\]|[^\s:/?#@\[\]]+)(:[0-9]{1,5})?", re.ASCII)
_ORIGIN = re.compile(r"[a-z][a-z0-9+.-]*://(.+)", re.ASCII)
_SHOWN = re.compile(r"[^\x20-\x7e]")
_LONGEST_SHOWN: Final = 80
_REMEMBERED: Final = 64


class LocalVisitors:
    """Turns away what a web page makes a browser send, from elsewhere or under another's name.

    A browser says where a page is from in ``Origin``, or, where it sends none, in
    ``Sec-Fetch-Site``. A page whose name is made to lead to this machine (DNS rebinding) has its
    own name in ``Host``. Programs send neither of the first two.

    Args:
        hosts: Further names under which this machine is known; any port.
    """

    def __init__(self, hosts: Collection[str] = ()) -> None:
        self._hosts = frozenset(_plain(host.lower()) for host in hosts)
        # Most requests carry the same few values.
        self._passed: set[tuple[bytes, bytes]] = set()

    def check(self, headers: Iterable[tuple[bytes, bytes]]) -> None:
        """Lets a request in.

        Args:
            headers: As ASGI gives them, names in lower case.

        Raises:
            Forbidden: A web page is behind it, or it asks for a host that is not this machine.
        """
        has_origin, is_cross_site = False, False
        for header in headers:
            name = header[0]
            if name == b"host":
                self._check(header, "Host")
            elif name == b"origin":
                has_origin = True
                self._check(header, "Origin")
            elif name == b"sec-fetch-site":
                is_cross_site = is_cross_site or header[1].strip().lower() == b"cross-site"
        if is_cross_site and not has_origin:
            raise _refusal("Sec-Fetch-Site", "cross-site")

    def _check(self, header: tuple[bytes, bytes], shown: str) -> None:
        if header in self._passed:
            return
        name, value = header
        text = value.decode("latin-1").strip().lower()
        authority: str | None = text
        if name == b"origin":
            origin = _ORIGIN.fullmatch(text)
            authority = origin[1] if origin else None
        found = _AUTHORITY.fullmatch(authority) if authority is not None else None
        if found is None or not self._is_local(_plain(found[1])):
            raise _refusal(shown, text)
        if len(self._passed) < _REMEMBERED:
            self._passed.add(header)

    def _is_local(self, host: str) -> bool:
        if host == "localhost" or host.endswith(".localhost") or host in self._hosts:
            return True
        try:
            address = ipaddress.ip_address(host)
        except ValueError:
            return False
        mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
        return (mapped or address).is_loopback


def _plain(host: str) -> str:
    """A host without the brackets of an IPv6 address and the dot of a full name."""
    return host.removeprefix("[").removesuffix("]").removesuffix(".")


def _refusal(header: str, value: str) -> Forbidden:
    shown = _SHOWN.sub("?", value)[:_LONGEST_SHOWN]
    return Forbidden(
        f"{header}: {shown} is refused, since this gateway asks for no key and serves programs of "
        "its own machine only: call it as localhost, name the host in gateway.hosts, or serve "
        "without --open and use a key"
    )
