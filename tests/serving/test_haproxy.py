"""What the server's processes listen on, and what gets through the proxy."""

from __future__ import annotations

import re
import socket
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import requests

if TYPE_CHECKING:
    from tests.conftest import Server


def listening() -> dict[str, str]:
    """Address of each TCP socket of this machine that listens, by its inode."""
    found = {}
    for table, family in (("tcp", socket.AF_INET), ("tcp6", socket.AF_INET6)):
        for line in Path("/proc/net", table).read_text().splitlines()[1:]:
            _, local, _, state, *_, inode = line.split()[:10]
            if state == "0A":
                packed = bytes.fromhex(local.split(":")[0])
                words = b"".join(packed[start : start + 4][::-1] for start in range(0, len(packed), 4))
                found[inode] = socket.inet_ntop(family, words)
    return found


@pytest.mark.skipif(not Path("/proc/net/tcp").exists(), reason="sockets are read from /proc")
def test_all_ports_are_on_loopback(server: Server) -> None:
    """HAProxy's statistics and metrics too; but for one of each replica, which asks for Ray's token."""
    addresses = listening()
    found = []
    for pid in server.processes():
        with suppress(OSError):  # it has just ended
            for file in list(Path(f"/proc/{pid}/fd").iterdir()):
                with suppress(OSError):  # it has just been closed
                    inode = re.fullmatch(r"socket:\[(\d+)\]", str(file.readlink()))
                    address = addresses.get(inode[1]) if inode else None
                    if address and not address.startswith(("127.", "::ffff:127.")) and address != "::1":
                        found.append((pid, address))
    commands = server.processes()  # a process has its name before it listens
    faults = [(commands[pid], address) for pid, address in found if pid in commands]
    assert [fault for fault in faults if not fault[0].startswith("ray::ServeReplica:")] == []


def test_a_page_of_an_origin_of_the_settings_gets_through(server: Server) -> None:
    """The question that its browser asks first, and the answer with the headers that it lets the page read."""
    origin = {"Origin": "https://viewer.example.org"}
    asked = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization,content-type"}
    question = requests.options(f"{server.url}/v1/runs", headers=origin | asked, timeout=60)
    answer = requests.head(
        f"{server.url}/v1/datasets/x", headers=origin | {"Authorization": f"Bearer {server.token}"}, timeout=60
    )
    assert (question.status_code, answer.status_code) == (200, 404)
    for response in (question, answer):
        assert response.headers["Access-Control-Allow-Origin"] == origin["Origin"]
