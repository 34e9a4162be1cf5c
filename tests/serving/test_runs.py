"""Runs on a real server: what a client sees of one, whichever way it ends."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
import requests

from t3d_server.client import Client, RunHandle
from t3d_server.errors import (
    AlgorithmError,
    AlgorithmNotFoundError,
    DatasetNotFoundError,
    DeviceNotSupportedError,
    InvalidArgsError,
    InvalidRequestError,
    VersionNotFoundError,
)
from t3d_server.ids import new_id
from t3d_server.models import AlgorithmVersion, RunFailure, RunStatus
from t3d_server.storage.s3 import S3ObjectStore
from tests.conftest import Server
from tests.recorded import recorded

pytestmark = pytest.mark.usefixtures("probe")

IMAGE = np.arange(48, dtype=np.uint16).reshape(6, 8) + 1
END_TIMEOUT_S = 100.0


@pytest.fixture(scope="module")
def image(client: Client) -> str:
    """A stored image."""
    return client.upload(IMAGE).id


@pytest.fixture
def submit(client: Client, image: str) -> Callable[..., RunHandle]:
    """Runs the probe on the image: `submit("identity", count=3)`."""

    def submit(mode: str, **args: object) -> RunHandle:
        return client.submit("probe", image, args={"mode": mode, **args})

    return submit


def until(handle: RunHandle, message: str) -> None:
    """Returns once the run has logged this message."""
    for event in handle.events():
        if event.message == message:
            return
    raise AssertionError(f"ended without having said {message!r}: {handle.run}")


def failure(handle: RunHandle, status: RunStatus = RunStatus.FAILED) -> RunFailure:
    """Why the run has no result."""
    run = handle.wait(END_TIMEOUT_S)
    assert run.status is status
    assert run.output_dataset_ids == []
    assert run.progress == 1
    assert run.error is not None
    return run.error


@pytest.mark.parametrize(
    "array",
    [IMAGE, np.linspace(-1, 1, 60, dtype=np.float32).reshape(2, 5, 6), np.full((5, 7, 3), 9, np.uint8)],
    ids=["image", "stack", "colour"],
)
def test_the_result_is_the_array_that_went_in(client: Client, array: np.ndarray) -> None:
    """Values, shape and dtype survive upload, replica and download."""
    result = client.run("probe", array)["image"]

    assert result.dtype == array.dtype
    np.testing.assert_array_equal(result, array)


def test_progress_and_log_are_seen_while_it_runs(submit: Callable[..., RunHandle], tmp_path: Path) -> None:
    handle = submit("holds", path=str(tmp_path / "go"))
    until(handle, "holding")

    running = next(run for run in handle.events() if run.progress == 0.5)
    assert running.status is RunStatus.RUNNING
    assert handle.run.started_at is not None
    assert [line.message for line in handle.log()] == ["holding"]

    (tmp_path / "go").touch()
    assert handle.wait(END_TIMEOUT_S).progress == 1


def test_an_error_names_the_place_in_the_authors_code(submit: Callable[..., RunHandle]) -> None:
    """Type, message and traceback, with the author's files and functions although the code is minified."""
    handle = submit("raises")
    error = failure(handle)

    assert (error.code, error.type, error.message) == ("algorithm_error", "ValueError", "the image is too green: 2.0")
    places = [line.strip().rpartition(", in ") for line in error.traceback.splitlines() if line.startswith("  File")]
    assert [(place.split('"')[1], function) for place, _, function in places] == [
        ("Runner.py", "inference"),
        ("Runner.py", "raises"),
        ("steps/deep.py", "explode"),
    ]
    with pytest.raises(AlgorithmError, match="too green") as raised:
        handle.result()
    assert raised.value.traceback == error.traceback
    assert (handle.log()[-1].level, handle.log()[-1].message) == ("ERROR", error.traceback.rstrip())


@pytest.mark.parametrize(
    ("mode", "code", "kind", "message"),
    [
        ("exits", "algorithm_error", "SystemExit", "enough"),
        ("returns_nothing", "algorithm_error", "TypeError", "must return the list of ids"),
        ("returns_foreign_ids", "algorithm_error", "ValueError", "none of its inputs: 0199aaaa"),
        ("too_few", "algorithm_error", "ValueError", "each of the 1 input slices"),
        (
            "posts_text",
            "invalid_dataset",
            "InvalidDatasetError",
            "result 1 does not fit ImageSchema; it has image\n  - image: ",
        ),
    ],
)
def test_what_an_author_does_wrong_fails_the_run(
    submit: Callable[..., RunHandle], mode: str, code: str, kind: str, message: str
) -> None:
    error = failure(submit(mode))

    assert (error.code, error.type) == (code, kind)
    assert message in error.message
    assert failure(submit(mode)).type == kind  # the replica goes on


@pytest.mark.parametrize("mode", ["posts_and_raises", "posts_text"])
def test_a_failed_run_leaves_no_dataset(
    submit: Callable[..., RunHandle], server_store: S3ObjectStore, mode: str
) -> None:
    before = {stat.key for stat in server_store.list("datasets/")}
    handle = submit(mode)
    failure(handle)

    assert {stat.key for stat in server_store.list("datasets/")} == before
    assert len(handle.log()) == 1 + (mode == "posts_and_raises")


def test_a_running_run_stops_at_its_next_call_back(submit: Callable[..., RunHandle], tmp_path: Path) -> None:
    """One that makes none goes on until it does, and gets no further."""
    reporting = submit("holds", path=str(tmp_path / "never"))
    silent = submit("holds_silently", path=str(tmp_path / "go"))
    for handle in (reporting, silent):
        until(handle, "holding")
    assert reporting.cancel().cancel_requested
    assert failure(reporting, RunStatus.CANCELLED).code == "cancelled"
    asked = silent.cancel()  # the other one has ended: from now on, time counts
    assert (asked.status, asked.cancel_requested) == (RunStatus.RUNNING, True)
    (tmp_path / "go").touch()
    assert failure(silent, RunStatus.CANCELLED).code == "cancelled"
    messages = [line.message for line in silent.log()]
    assert (messages[0], messages[-1]) == ("holding", "the run was cancelled")
    assert "went further" not in messages


def test_a_queued_run_is_cancelled_at_once(submit: Callable[..., RunHandle], tmp_path: Path) -> None:
    """It has a place in the queue; those behind it move up."""
    holding = [submit("holds", path=str(tmp_path / "go")) for _ in range(2)]
    for handle in holding:
        until(handle, "holding")
    first, second = submit("identity"), submit("identity")
    assert (first.run.queue_position, second.run.queue_position) == (0, 1)

    assert first.cancel().status is RunStatus.CANCELLED
    assert second.refresh().queue_position == 0
    assert failure(first, RunStatus.CANCELLED).code == "cancelled"
    (tmp_path / "go").touch()
    assert {handle.wait(END_TIMEOUT_S).status for handle in [*holding, second]} == {RunStatus.COMPLETED}


def test_all_args_errors_come_at_once(client: Client, image: str) -> None:
    with pytest.raises(InvalidArgsError) as raised:
        client.submit("probe", image, args={"mode": 3, "count": -1, "cuont": 1})

    assert sorted(problem.key.rpartition(".")[2] for problem in raised.value.problems) == ["count", "cuont", "mode"]


def test_what_cannot_be_run_is_refused(client: Client, image: str) -> None:
    """Nothing of it is recorded."""
    before = client.runs(limit=1)[0].id
    with pytest.raises(AlgorithmNotFoundError, match="did you mean 'probe'"):
        client.submit("prope", image)
    with pytest.raises(VersionNotFoundError, match=r"1\.0\.0"):
        client.submit("probe", image, version="9.0.0")
    missing = [new_id(), new_id()]
    with pytest.raises(DatasetNotFoundError) as raised:
        client.submit("probe", [missing[0], image, missing[1]])
    assert [problem.key for problem in raised.value.problems] == ["input_dataset_ids[0]", "input_dataset_ids[2]"]
    with pytest.raises(InvalidRequestError, match="T3D_MAX_RUN_S"):
        client._http.call(
            "POST",
            "/v1/algorithms/probe/runs",
            json=json.dumps({"input_dataset_ids": [image], "timeout_s": 1e9}).encode(),
        )
    assert client.runs(limit=1)[0].id == before


def test_runs_are_on_record_before_anyone_hears_of_them(
    submit: Callable[..., RunHandle], server_store: S3ObjectStore, tmp_path: Path
) -> None:
    """The record is there when the id is given, the outcome when the end is told."""
    handle = submit("holds", path=str(tmp_path / "go"))
    assert recorded(server_store).open[handle.id].run.args == handle.run.args

    (tmp_path / "go").touch()
    run = handle.wait(END_TIMEOUT_S)
    stored = recorded(server_store).ended[handle.id]
    assert (stored.run, [line.message for line in stored.lines]) == (run, ["holding"])


def test_thousands_of_log_lines_arrive_in_order(submit: Callable[..., RunHandle]) -> None:
    handle = submit("chatters", count=5000)

    assert handle.wait(END_TIMEOUT_S).status is RunStatus.COMPLETED
    assert [line.message for line in handle.log()] == [f"line {number}" for number in range(5000)]


def test_who_stops_following_is_waited_for_by_nobody(
    submit: Callable[..., RunHandle], server: Server, tmp_path: Path
) -> None:
    """Neither the router nor the coordinator goes on with it, as Ray tells of the calls between them."""
    handle = submit("holds", path=str(tmp_path / "go"))
    with closing(handle.events()) as events:
        next(event for event in events if event.progress == 0.5)
        wait_until(lambda: _running(server, "CoordinatorActor.news") > 0)
    wait_until(lambda: _running(server, "CoordinatorActor.news") == 0, 25)  # less than a call waits for news
    handle.cancel()


def _running(server: Server, name: str) -> int:
    """How many calls of a method of an actor are worked on."""
    query = [("detail", "1")]
    for key, value in {"name": name, "state": "RUNNING"}.items():
        query += [("filter_keys", key), ("filter_predicates", "="), ("filter_values", value)]
    headers = {"Authorization": f"Bearer {server.environment['RAY_AUTH_TOKEN']}"}
    answer = requests.get(f"{server.dashboard_url}/api/v0/tasks", params=query, headers=headers, timeout=60)
    return len(answer.json()["data"]["result"]["result"])


def wait_until(condition: Callable[[], bool], timeout_s: float = END_TIMEOUT_S) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.1)  # Ray tells of calls once a second, and replicas of files never, by no event


def test_what_is_printed_is_in_the_log_and_the_servers_own_log_is_json(
    submit: Callable[..., RunHandle], server: Server
) -> None:
    """A line of a replica's own log tells run, algorithm, version and replica; so does one of the coordinator's."""
    handle = submit("prints")
    assert handle.wait(END_TIMEOUT_S).status is RunStatus.COMPLETED
    assert [(line.level, line.message) for line in handle.log()] == [
        ("INFO", "printed"),
        ("WARNING", "on standard error"),
        ("INFO", "probe: given to logging"),
    ]

    logs = Path(re.findall(r"/\S+/session_[^/\s]+/logs", " ".join(server.processes().values()))[0])
    [said] = _records(logs / "serve", "replica_probe*.log", f"run {handle.id}: attempt 1 has a result")
    assert (said["run_id"], said["algorithm"], said["version"]) == (handle.id, "probe", "1.0.0")
    assert said["replica"]
    [said] = _records(logs, "worker-*.err", f"run {handle.id} has ended")
    assert (said["run_id"], said["component_name"]) == (handle.id, "coordinator")


def _records(folder: Path, files: str, text: str) -> list[dict[str, str]]:
    """The JSON lines of log files that hold a text."""
    lines = [line for path in folder.glob(files) for line in path.read_text().splitlines()]
    return [json.loads(line) for line in lines if text in line and line.startswith("{")]


def test_eight_clients_at_once_get_each_their_own(client: Client) -> None:
    arrays = [np.full((16, 16), number, np.uint8) for number in range(8)]

    def result_of(array: np.ndarray) -> np.ndarray:
        image: np.ndarray = client.run("probe", array)["image"]
        return image

    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(result_of, arrays))

    for array, result in zip(arrays, results, strict=True):
        np.testing.assert_array_equal(result, array)


def test_runs_do_not_see_what_others_set_on_self(submit: Callable[..., RunHandle], tmp_path: Path) -> None:
    """Not even those that the same replica works on at the same time."""
    paths = [str(tmp_path / name) for name in ("one", "two")]
    handles = [submit("marks", path=path) for path in paths]
    for handle in handles:
        until(handle, "holding")
    for path in paths:
        Path(path).touch()

    for handle, path in zip(handles, paths, strict=True):
        handle.wait(END_TIMEOUT_S)
        assert handle.log()[-1].message == f"found '', then {path!r}"


def test_assets_are_loaded_once_for_many_runs(submit: Callable[..., RunHandle]) -> None:
    handles = [submit("reports") for _ in range(4)]
    seen = set()
    for handle in handles:
        handle.wait(END_TIMEOUT_S)
        told = json.loads(handle.log()[0].message)
        seen.add((told["pid"], told["loads"]))

    [(_, loads)] = seen
    assert loads == 1


def test_a_run_that_kills_its_replica_is_given_up(client: Client, submit: Callable[..., RunHandle]) -> None:
    """After a few attempts, each of them in the log; the next run works on a fresh replica."""
    handle = submit("dies")
    handle.wait(200)  # Serve may take until its next health check, 10 s, to notice each death
    error = failure(handle)

    assert error.code == "attempts_exhausted"
    assert "its process was killed (perhaps out of memory)" in error.message
    assert handle.run.attempts == 3
    assert [line.message.partition(":")[0] for line in handle.log()] == [
        "attempt 1 was lost",
        "the run is retried as attempt 2",
        "attempt 2 was lost",
        "the run is retried as attempt 3",
        "attempt 3 was lost",
        "AttemptsExhausted",
    ]
    np.testing.assert_array_equal(client.run("probe", IMAGE)["image"], IMAGE)


def test_a_run_that_makes_no_call_back_is_ended_by_force(
    client: Client, submit: Callable[..., RunHandle], image: str, tmp_path: Path
) -> None:
    """Cancelled or past its deadline; a run on the same replica is repeated and not charged, those that wait go on."""
    neighbour = submit("holds", path=str(tmp_path / "go"))
    spinning = client.submit("probe", image, args={"mode": "spins"}, device="gpu", timeout_s=1)
    until(neighbour, "holding")
    stuck = submit("holds_the_interpreter", path=str(tmp_path / "held"))
    wait_until((tmp_path / "held").exists)
    waiting = submit("identity")
    for _ in range(2):
        assert stuck.cancel().status is RunStatus.RUNNING

    assert failure(stuck, RunStatus.CANCELLED).code == "cancelled"
    assert failure(spinning).code == "timeout"
    for handle in (stuck, spinning):
        assert "Call set_progress in long loops" in failure(handle, handle.run.status).message
        assert handle.log()[-1].message.endswith(failure(handle, handle.run.status).message)
    (tmp_path / "go").touch()
    assert {handle.wait(END_TIMEOUT_S).status for handle in (neighbour, waiting)} == {RunStatus.COMPLETED}
    assert [(each.outcome, each.charged) for each in neighbour.run.attempt_history] == [
        ("lost", False),
        ("completed", True),
    ]
    assert stuck.cancel() == stuck.run


def test_a_device_that_is_not_supported_is_an_error(client: Client, image: str, cpu_only: AlgorithmVersion) -> None:
    with pytest.raises(DeviceNotSupportedError, match="it supports: cpu"):
        client.submit(cpu_only.manifest.name, image, device="gpu")
