"""`t3d up`: a server on this machine."""

from __future__ import annotations

import logging
import os
import signal
import threading
from concurrent.futures import Future
from types import FrameType

import typer

from t3d_server.cli.output import console
from t3d_server.discovery import ServerState, read_server, state_directory
from t3d_server.settings import Settings, load_settings

EXIT_AT_ONCE = 130
WAKES_S = 0.5
"""The main thread handles signals, also those that the system gave to another one, which does not wake it."""


def register(app: typer.Typer) -> None:
    """Add the commands of this file."""
    app.command()(up)


def up() -> None:
    """Start a server on this machine, and serve until Ctrl-C.

    It starts the store, Ray and the server, with all algorithms that were published before. Settings come from the
    environment (T3D_PORT, T3D_S3_ENDPOINT, ...) and the file that T3D_SETTINGS_FILE names.

    Ctrl-C and SIGTERM stop everything; a second Ctrl-C ends the command at once. The exit code is 0 if it has served,
    and 130 if it was stopped before.

    Example: T3D_PORT=8001 t3d up
    """
    running = read_server()
    if running is not None:
        console.print(f"t3d is running already: {running.url}   dashboard: {running.dashboard_url}")
        console.print(f"Ctrl-C there, or `kill {running.pid}`, stops it.")
        return
    settings = load_settings()
    stop = threading.Event()

    def ask_to_stop(number: int, frame: FrameType | None) -> None:
        if stop.is_set() and number == signal.SIGINT:
            os._exit(EXIT_AT_ONCE)  # the processes that it started end, as if this process was killed
        stop.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, ask_to_stop)
    # Not in the main thread: there Ray would set a handler of its own for SIGTERM, which raises in the midst of Ray's
    # start and can abort the process. These ones only ask, and the start ends before its next step.
    ended: Future[None] = Future()
    threading.Thread(target=_serve, args=(settings, stop, ended), name="server").start()
    while not stop.wait(WAKES_S):
        pass
    if not ended.done():
        console.print("stopping ...")
        logging.getLogger("ray").setLevel(
            logging.CRITICAL
        )  # Ctrl-C ends some of its processes, and it logs errors for them
    ended.result()


def _serve(settings: Settings, stop: threading.Event, ended: Future[None]) -> None:
    """Run the server until it is asked to stop; sets `stop` itself where it ends before."""
    from t3d_server.main import local_server

    def on_step(step: str) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        console.print(f"{step} ...")

    try:
        with local_server(settings, on_step) as server:
            _print_addresses(server, settings)
            stop.wait()
    except BaseException as error:  # noqa: BLE001  # it is raised again where it is waited for
        # Ctrl-C in a terminal reaches Ray's processes as well: what then fails of the start is no fault.
        ended.set_exception(KeyboardInterrupt() if stop.is_set() else error)
    else:
        ended.set_result(None)
    finally:
        stop.set()


def _print_addresses(server: ServerState, settings: Settings) -> None:
    console.print(f"t3d is ready: {server.url}   dashboard: {server.dashboard_url}")
    if settings.auth == "on":
        token = state_directory() / "token"
        console.print(f"The t3d command and Client find the token by themselves; other programs read it from {token}")
        console.print(f'  curl -H "Authorization: Bearer $(cat {token})" {server.url}/v1/algorithms')
    else:
        console.print("Authentication is off: everybody who reaches the port can do everything.", style="yellow")
    if settings.v0_port is not None:
        console.print(f"The v0 API asks for no token on {settings.v0_host}, port {settings.v0_port}.", style="yellow")
    # Without the last one Ray takes 127.0.0.1 for another address of this machine.
    variables = f"RAY_ADDRESS={server.ray_address} RAY_AUTH_MODE=token RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER=0"
    console.print("Other Ray programs on this machine join by `ray.init()` with")
    console.print(f"  export {variables}")
