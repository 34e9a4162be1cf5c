"""Keys of the object store."""

RUN_EVENTS, RUN_SNAPSHOTS, RUN_PAGES, RUN_LOGS = "runs/log/", "runs/snapshots/", "runs/pages/", "runs/logs/"
V0_EXECUTIONS = "executions/v0/"


def v0_key(run_id: str) -> str:
    """Where the v0 API keeps what it was asked for."""
    return f"{V0_EXECUTIONS}{run_id}.json"
