"""Publishes and removes versions of algorithms, and shows the progress."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from t3d_server.cli.output import console, errors, print_warnings, progress_bar
from t3d_server.cli.versions import OPEN_ENDS, Deployment
from t3d_server.client import Client
from t3d_server.models import AlgorithmVersion, RunStatus
from t3d_server.packages.wording import counted

_MOST_RUNS = 1000


def publish(
    client: Client,
    path: Path,
    files: Mapping[str, Path],
    warnings: Sequence[str],
    deployment: Deployment,
) -> AlgorithmVersion:
    """Publish a folder, and show the progress.

    Args:
        client: connection to the server.
        path: the folder, as the user gave it.
        files: its files, see `scan`.
        warnings: those of `scan`.
        deployment: `asked` is set once the server was asked.
    """
    before = {info.name: info for info in client.algorithms()}
    with progress_bar(f"{path}: hashing") as bar:

        def show(stage: str) -> None:
            deployment.asked |= stage not in ("hashing", "uploading")
            bar.begin(f"{path}: {stage}")

        try:
            version = client.publish(files, on_progress=bar.show_bytes, on_stage=show)
        except (*OPEN_ENDS, KeyboardInterrupt):
            if deployment.asked:
                print_warnings([f"it is not known whether {path} was published; `t3d list` shows it"])
            raise
    manifest = version.manifest
    print_warnings(dict.fromkeys([*warnings, *version.warnings]))
    known = before.get(manifest.name)
    if known and manifest.version in known.versions:  # else it would have been refused: a version never changes
        print_unchanged(manifest.name, manifest.version, now_current=known.current != manifest.version)
        return version
    loaded = " and ".join(version.proven) or "no device yet"
    console.print(
        f"{manifest.name} {manifest.version} is deployed ({manifest.algorithm_type}, loaded on {loaded})",
        markup=False,
    )
    return version


def print_unchanged(name: str, version: str, *, now_current: bool = False) -> None:
    """Print that a version is published already, with the same content."""
    changed = "nothing has changed, but it is the current version now" if now_current else "nothing has changed"
    console.print(f"{name} {version} is deployed already, and serves: {changed}", markup=False)


def remove_version(client: Client, name: str, version: str, *, cancel_runs: bool = False) -> None:
    """Remove a version, and show how many runs are waited for."""
    runs = count_runs(client, name, version)
    doing = "removing"
    if runs:
        doing = f"{'cancelling' if cancel_runs else 'waiting for'} {counted(runs, 'run')}"
        advice = "" if cancel_runs else " to end; --cancel-runs cancels them"
        errors.print(f"{name} {version}: {doing}{advice}", markup=False)
    with progress_bar(f"{name} {version}: {doing}"):
        try:
            client.remove(name, version, cancel_runs=cancel_runs)
        except KeyboardInterrupt:
            errors.print(f"the server goes on: {name} {version} is removed when its runs have ended", markup=False)
            raise
    console.print(f"{name} {version} is removed", markup=False)


def count_runs(client: Client, name: str, version: str) -> int:
    """How many runs of a version have not ended."""
    live = (RunStatus.RUNNING, RunStatus.PENDING)
    runs = [run for status in live for run in client.runs(algorithm=name, status=status, limit=_MOST_RUNS)]
    return sum(run.version == version for run in runs)
