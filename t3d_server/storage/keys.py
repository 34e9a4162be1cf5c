"""The keys of the object store: their prefixes, and functions that build them.

    datasets/<id>.h5
    runs/log/<seq>.jsonl                                        a segment of the log of runs
    runs/snapshots/<seq>.json                                   what the log adds up to
    runs/pages/<name>.jsonl                                     ended runs
    runs/logs/<run id>~<process>.jsonl                          the log of a run that goes on, or a long one
    executions/v0/<run id>.json                                 what the v0 API was asked for
    names/v0/<name>.json                                        datasets of the names that clients of the v0 API chose
    uploads/v0/<name>~<id>                                      what they uploaded, one for each presigned URL
    algorithms/<name>/<version>.json                            manifest, module hash, asset hashes
    algorithms/<name>/<version>.removed                         hash of the source of a version that was removed
    algorithms/<name>/current.json
    modules/<sha256>.zip    assets/<sha256>    blobs/<sha256>

`docs/architecture.md` has the same list.
"""

from __future__ import annotations

DATASETS = "datasets/"
DATASET_SUFFIX = ".h5"
RUN_EVENTS = "runs/log/"
RUN_SNAPSHOTS = "runs/snapshots/"
RUN_PAGES = "runs/pages/"
RUN_LOGS = "runs/logs/"
EXECUTIONS = "executions/v0/"
NAMES = "names/v0/"
UPLOADS = "uploads/v0/"
ALGORITHMS = "algorithms/"
MODULES = "modules/"
ASSETS = "assets/"
BLOBS = "blobs/"


def dataset_key(dataset_id: str) -> str:
    """The HDF5 file of a dataset."""
    return f"{DATASETS}{dataset_id}{DATASET_SUFFIX}"


def segment_key(seq: int) -> str:
    """A segment of the log of runs."""
    return f"{RUN_EVENTS}{seq:012d}.jsonl"


def snapshot_key(seq: int) -> str:
    """What the log of runs adds up to, as of a segment."""
    return f"{RUN_SNAPSHOTS}{seq:012d}.json"


def page_key(name: str) -> str:
    """A page of ended runs."""
    return f"{RUN_PAGES}{name}.jsonl"


def run_log_key(name: str) -> str:
    """A log that is not kept with its run."""
    return f"{RUN_LOGS}{name}.jsonl"


def execution_key(run_id: str) -> str:
    """The request of the v0 API that began a run."""
    return f"{EXECUTIONS}{run_id}.json"


def name_key(name: str) -> str:
    """The dataset that has a name in the v0 API."""
    return f"{NAMES}{name}.json"


def upload_key(name: str, upload_id: str) -> str:
    """A file that a client of the v0 API puts under a name; with an empty id the prefix of all of this name."""
    return f"{UPLOADS}{name}~{upload_id}"


def version_key(algorithm: str, number: str) -> str:
    """The record of a published version."""
    return f"{ALGORITHMS}{algorithm}/{number}.json"


def tombstone_key(algorithm: str, number: str) -> str:
    """The hash of the source of a version that was removed."""
    return f"{ALGORITHMS}{algorithm}/{number}.removed"


def current_key(algorithm: str) -> str:
    """The number of the current version."""
    return f"{ALGORITHMS}{algorithm}/current.json"


def module_key(sha256: str) -> str:
    """A module archive."""
    return f"{MODULES}{sha256}.zip"


def asset_key(sha256: str) -> str:
    """An asset of published versions."""
    return f"{ASSETS}{sha256}"


def blob_key(sha256: str) -> str:
    """A file that was uploaded to be published."""
    return f"{BLOBS}{sha256}"
