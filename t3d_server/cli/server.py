"""`t3d up`: a server on this machine."""

from __future__ import annotations

import signal
import threading
from types import FrameType

import typer

from t3d_server.cli.output import console
from t3d_server.discovery import read_server, state_directory
from t3d_server.settings import Settings


def register(app: typer.Typer) -> None:
    """Add the commands of this file."""
    app.command()(up)


def up() -> None:
    """Start the store, Ray and the server, and serve the published algorithms until Ctrl-C.

    Options come from the environment (T3D_PORT, T3D_S3_ENDPOINT, ...).
    """
    running = read_server()
    if running is not None:
        console.print(f"t3d is running already: {running.url}   dashboard: {running.dashboard_url}")
        console.print(f"Ctrl-C there, or `kill {running.pid}`, stops it.")
        return
    stop = threading.Event()

    def ask_to_stop(number: int, frame: FrameType | None) -> None:
        stop.set()

    # Ctrl-C during start-up ends it through KeyboardInterrupt; SIGTERM does the same.
    signal.signal(signal.SIGTERM, lambda *_: _interrupt())
    from t3d_server.main import local_server

    console.print("starting the store, Ray and the server ...")
    settings = Settings()
    with local_server(settings) as server:
        console.print(f"t3d is ready: {server.url}   dashboard: {server.dashboard_url}")
        if settings.auth == "on":
            token = state_directory() / "token"
            console.print(f"The t3d command and Client find the token by themselves; others read it from {token}")
            console.print(f'  curl -H "Authorization: Bearer $(cat {token})" {server.url}/v1/algorithms')
        else:
            console.print("Authentication is off: whoever reaches the port can do everything.", style="yellow")
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, ask_to_stop)
        stop.wait()
        console.print("stopping ...")


def _interrupt() -> None:
    raise KeyboardInterrupt
