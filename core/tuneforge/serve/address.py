"""Where a server listens, and whether it answers there."""

from __future__ import annotations

import errno
import ipaddress
import socket
import urllib.request
from dataclasses import dataclass
from http.client import HTTPException

from ..errors import RefusedError

# What is asked is this machine: a proxy of the person's has no business in between.
_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))
_WAITING = 128


@dataclass(frozen=True)
class Address:
    """A host, in numbers, and a port."""

    host: str
    port: int

    @property
    def loopback(self) -> bool:
        """Whether it can be reached from this machine alone."""
        return ipaddress.ip_address(self.host).is_loopback

    @property
    def url(self) -> str:
        """What it is reached by from this machine."""
        host = ipaddress.ip_address(self.host)
        if host.is_unspecified:
            host = ipaddress.ip_address("127.0.0.1" if host.version == 4 else "::1")
        return f"http://[{host}]:{self.port}" if host.version == 6 else f"http://{host}:{self.port}"


def free_address(host: str, port: int) -> Address:
    """The address, where nobody listens yet; port 0 becomes one that is free. Raises RefusedError."""
    listener, address = listening(host, port)
    listener.close()
    return address


def listening(host: str, port: int) -> tuple[socket.socket, Address]:
    """A socket that listens there, whose connections wait for whoever takes them, and where that is. As above."""
    try:
        family, kind, protocol, _, place = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except socket.gaierror as error:
        raise RefusedError(f"--host {host} is no address of this machine: {error.strerror}") from error
    listener = socket.socket(family, kind, protocol)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # one that was left a minute ago is free
    try:
        listener.bind(place)
        listener.listen(_WAITING)
    except OSError as error:
        listener.close()
        if error.errno == errno.EADDRINUSE:
            fix = "Give another one with --port; --port 0 takes one that is free."
            raise RefusedError(f"port {port} of {host} is in use", fix) from error
        raise RefusedError(f"nothing can listen at port {port} of {host}: {error.strerror}") from error
    return listener, Address(str(place[0]), listener.getsockname()[1])


def ready(address: Address) -> bool:
    """Whether a server answers there that clients may come."""
    try:
        with _OPENER.open(f"{address.url}/health", timeout=5):
            return True
    except (OSError, HTTPException):
        return False
