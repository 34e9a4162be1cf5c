"""Records of runs in a store."""

from __future__ import annotations

import pytest

from t3d_server.errors import RunNotFoundError
from t3d_server.ids import new_id
from t3d_server.models import LogLine, Run, RunStatus, utc_now
from t3d_server.runs.records import EndedRun, Record, RunRecords
from t3d_server.storage.memory import MemoryObjectStore


def make_run(algorithm: str = "blur", status: RunStatus = RunStatus.COMPLETED) -> Run:
    return Run(
        id=new_id(),
        algorithm=algorithm,
        version="1.0.0",
        resolved_device="cpu",
        status=status,
        input_dataset_ids=[],
        created_at=utc_now(),
    )


@pytest.fixture
def records() -> RunRecords:
    return RunRecords(MemoryObjectStore())


def test_ended_runs_are_listed_newest_first_from_the_index(records: RunRecords) -> None:
    runs = [
        make_run(),
        make_run("denoise"),
        make_run(status=RunStatus.FAILED),
        make_run("a~b".replace("~", "-")),
    ]
    for index, run in enumerate(runs):
        # Ids of one millisecond are in no order that matters; these are an hour apart.
        hour = f"{int(run.id[:8], 16) + index * 55:08x}"
        runs[index] = run.model_copy(update={"id": hour + run.id[8:]})
        records.end(runs[index], [])
        records.file(runs[index])
    newest_first = [run.id for run in reversed(runs)]
    assert [run.id for run in records.ended_runs()] == newest_first
    assert list(records.ended_runs(start_after=runs[2].id)) == [
        EndedRun(run.id, run.algorithm, run.status) for run in (runs[1], runs[0])
    ]
    assert [run.id for run in records.ended_runs("denoise")] == [runs[1].id]
    assert list(records.ended_runs("denoise", start_after=runs[1].id)) == []


def test_ending_a_run_moves_it_from_open_to_done_with_its_log(records: RunRecords) -> None:
    run = make_run(status=RunStatus.PENDING)
    records.save(Record.of(run, owner="one"))
    assert records.find(run.id) == run
    ended = run.model_copy(update={"status": RunStatus.COMPLETED})
    line = LogLine(time=utc_now(), level="INFO", message="two\nlines")
    for _ in range(2):
        records.end(ended, [line])
        records.file(ended)
    assert records.find(run.id) == ended
    assert list(records.open_runs()) == []
    assert records.log(run.id) == [line]


def test_the_log_is_that_of_the_outcome_that_counts(records: RunRecords) -> None:
    """Neither one that a crash left without an outcome, nor that of a cluster which comes second."""
    run = make_run()
    crashed, first, second = (LogLine(time=utc_now(), level="INFO", message=text) for text in ("a", "b", "c"))
    records._put_log(run.id, [crashed])
    assert records.end(run, [first]) is None
    assert records.end(run.model_copy(update={"status": RunStatus.FAILED}), [second]) == run
    assert records.log(run.id) == [first]


@pytest.mark.parametrize(
    "run_id", ["", "nothing", "../../etc/passwd", "0199aaaa-0000-7000-8000-000000000000", "\x00", "ä" * 500]
)
def test_unknown_and_odd_ids_are_not_found(records: RunRecords, run_id: str) -> None:
    with pytest.raises(RunNotFoundError):
        records.find(run_id)
