"""Every option of the server, read from the environment (`T3D_*`) and an optional file."""

from __future__ import annotations

import io
import json
import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

from dotenv.parser import parse_stream
from pydantic import Field, ValidationError, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from t3d_server.errors import InvalidRequestError, Problem
from t3d_server.packages.wording import did_you_mean

GIB = 1024**3
SETTINGS_FILE = "T3D_SETTINGS_FILE"
"""The environment variable that names a file of settings."""
MIN_TOKEN_LENGTH = 16

_PREFIX = "T3D_"
_ENVIRONMENT_ALONE = (SETTINGS_FILE, "T3D_STATE_DIR", "T3D_URL", "T3D_TOKEN")
_UNITS = {"_s": "seconds", "_bytes": "bytes"}
_ORIGIN = re.compile(r"[a-z][a-z0-9+.-]*://[^/?#@\sA-Z]+")


class Settings(BaseSettings):
    """Options of the server.

    Each is set by the environment variable `T3D_` + its name in capitals, or by a line `T3D_NAME=value` in the file
    that `T3D_SETTINGS_FILE` names; the environment goes before the file. `load_settings` reads both.

    Attributes:
        host: address that the HTTP API listens on.
        port: port of the HTTP API.
        v0_port: port of the v0 API for clients that send no token; None opens none.
        v0_host: address that it listens on.
        dashboard_port: port of the Ray dashboard; the next free one if it is taken.
        s3_endpoint: `host:port` of an S3 store; None starts the embedded one.
        s3_access_key: access key of that store.
        s3_secret_key: secret key of that store.
        s3_bucket: the bucket; made if it is missing.
        s3_region: region that requests to that store are signed for.
        s3_secure: speak TLS with that store.
        s3_public_endpoint: `host:port` under which clients reach that store, for presigned URLs; None takes
            `s3_endpoint`.
        auth: "off" lets everybody who reaches the port do everything.
        tokens: role ("use" or "admin") of each token that is valid beside the admin token in the state directory.
        cors_origins: origins whose pages browsers let use the HTTP API, such as "https://viewer.example.org"; "*" for
            all. None by default.
        num_cpus: logical CPUs of the local Ray node; None counts the cores.
        num_gpus: logical GPUs of the local Ray node; None finds them.
        replica_num_cpus: logical CPUs that a replica reserves, unless its manifest says otherwise.
        replica_num_gpus: share of a GPU that a `gpu` replica reserves, unless its manifest says otherwise.
        gpu_memory_bytes: memory of one GPU, where it cannot be asked.
        max_replicas: most replicas of an algorithm on one device, unless its manifest says otherwise.
        idle_s: time without a run after which an algorithm scales down to its `min_replicas`.
        max_run_s: longest time an attempt at a run may take; also the default where neither request nor manifest names
            one.
        cancel_grace_s: time that a run which is told to stop has for its next call back; then its replica is ended.
        max_queued_runs: most runs that wait, of all algorithms.
        max_queued_runs_per_algorithm: most runs that wait for one algorithm.
        max_dataset_bytes: largest dataset, uploaded or unpacked.
        keep_datasets_s: how long a dataset is kept, from when it was stored; None for ever.
        keep_runs_s: how long a run that has ended is kept, with its log, from when it was submitted; None for ever.
        keep_logs_s: how long its log is kept; None as long as the run.
        keep_keys_s: how long an Idempotency-Key stands for its run.
        max_package_bytes: largest algorithm folder, and largest module once unpacked.
        max_package_files: most files in an algorithm folder.
        cache_dir: where replicas keep modules and assets; content-addressed, safe to delete while nothing runs.
        scratch_dir: where uploads and results wait for the store; None takes the system's temporary folder.
        tags_file: more algorithm tags, a file like `algorithm_tags.yaml`.
    """

    model_config = SettingsConfigDict(env_prefix="T3D_", extra="ignore", frozen=True)

    host: str = "127.0.0.1"
    port: int = Field(default=8000, ge=1, le=65535)
    v0_port: int | None = Field(default=None, ge=1, le=65535)
    v0_host: str = "127.0.0.1"
    dashboard_port: int = Field(default=8265, ge=1, le=65535)
    s3_endpoint: str | None = None
    s3_access_key: str = ""
    s3_secret_key: str = Field(default="", repr=False)
    s3_bucket: str = Field(default="t3d", pattern=r"^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$")
    s3_region: str = "us-east-1"
    s3_secure: bool = False
    s3_public_endpoint: str | None = None
    auth: Literal["on", "off"] = "on"
    # Without NoDecode, text that is no JSON would end the reading before the other settings are looked at.
    tokens: Annotated[dict[str, Literal["use", "admin"]], NoDecode] = Field(default={}, repr=False)
    # Commas between them, where pydantic-settings wants JSON.
    cors_origins: Annotated[list[str], NoDecode] = []
    num_cpus: int | None = Field(default=None, ge=1)
    num_gpus: int | None = Field(default=None, ge=0)
    replica_num_cpus: float = Field(default=0.1, gt=0)
    replica_num_gpus: float = Field(default=0.25, gt=0, le=1)
    gpu_memory_bytes: int | None = Field(default=None, gt=0)
    max_replicas: int = Field(default=2, ge=1)
    idle_s: float = Field(default=600.0, ge=1)
    max_run_s: float = Field(default=86_400.0, gt=0, allow_inf_nan=False)
    cancel_grace_s: float = Field(default=10.0, ge=0, allow_inf_nan=False)
    max_queued_runs: int = Field(default=10_000, ge=1)
    max_queued_runs_per_algorithm: int = Field(default=2_000, ge=1)
    max_dataset_bytes: int = Field(default=16 * GIB, gt=0)
    keep_datasets_s: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    keep_runs_s: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    keep_logs_s: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    keep_keys_s: float = Field(default=48 * 3600.0, gt=0, allow_inf_nan=False)
    max_package_bytes: int = Field(default=16 * GIB, gt=0)
    max_package_files: int = Field(default=10_000, gt=0)
    cache_dir: Path | None = None
    scratch_dir: Path | None = None
    tags_file: Path | None = None

    @field_validator("tokens", mode="before")
    @classmethod
    def _read_tokens(cls, value: Any) -> Any:
        expected = 'JSON such as {"<token>": "use"} is expected'
        try:
            tokens = json.loads(value) if isinstance(value, str) else value
        except json.JSONDecodeError as error:
            raise ValueError(f"{expected} ({error})") from error
        if not isinstance(tokens, dict):
            raise ValueError(expected)
        # By their places: a token must not be told, and who has mistaken the two has it where the role should be.
        faults = []
        for place, (token, role) in enumerate(tokens.items(), start=1):
            if role not in ("use", "admin"):
                faults.append(f"the role of token {place} is neither 'use' nor 'admin'")
            if len(token) < MIN_TOKEN_LENGTH:
                faults.append(f"token {place} is shorter than {MIN_TOKEN_LENGTH} characters: openssl rand -hex 32")
        if faults:
            raise ValueError("; ".join(faults))
        return tokens

    @field_validator("cors_origins", mode="before")
    @classmethod
    def _read_origins(cls, value: Any) -> Any:
        origins = [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value
        if wrong := [origin for origin in origins if origin != "*" and not _ORIGIN.fullmatch(origin)]:
            raise ValueError(f"{', '.join(wrong)}: an origin is like https://viewer.example.org, without a path, or *")
        return origins


VARIABLES = {f"{_PREFIX}{name.upper()}": name for name in Settings.model_fields}
"""Name of each setting by its variable."""


def load_settings(**given: Any) -> Settings:
    """Settings from the environment and the file that `T3D_SETTINGS_FILE` names.

    Args:
        given: settings by their names, which go before both.

    Raises:
        InvalidRequestError: settings cannot be used, each with its variable, what was found and what is allowed;
            `T3D_*` variables, or lines of the file, are none; or the file cannot be read.
    """
    in_environment = {name.upper(): name for name in os.environ if name.upper().startswith(_PREFIX)}
    problems = list(_unknown(in_environment.values()))
    file = os.environ.get(SETTINGS_FILE)
    lines = _read(Path(file), problems) if file else {}
    of_file = {VARIABLES[variable]: value for variable, value in lines.items() if variable not in in_environment}
    try:
        settings = Settings(**{**of_file, **given})
    except ValidationError as error:
        problems += [_problem(str(fault["loc"][0]), fault["msg"], fault["input"]) for fault in error.errors()]
    if problems:
        raise InvalidRequestError("settings that cannot be used", problems=problems)
    return settings


def _unknown(names: Iterable[str]) -> Iterator[Problem]:
    """Variables that are none: one that is misspelt would leave a default in force, without a word."""
    known = [*VARIABLES, *_ENVIRONMENT_ALONE]
    for name in names:
        if name.upper() not in known:
            yield Problem(name, f"there is no such setting{did_you_mean(name, known)}")


def _read(file: Path, problems: list[Problem]) -> dict[str, str]:
    """What a file sets, by the variables; what else stands there is added to the problems.

    Raises:
        InvalidRequestError: it cannot be read.
    """
    try:
        text = file.read_text("utf-8")
    except FileNotFoundError as error:
        raise InvalidRequestError(f"{SETTINGS_FILE} names a file that is not there: {file}") from error
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidRequestError(f"{SETTINGS_FILE} names a file that cannot be read: {file}: {error}") from error
    values = {}
    for key, value, original, wrong in parse_stream(io.StringIO(text)):
        if key is None and not wrong:
            continue  # a comment
        blank = original.string[: len(original.string) - len(original.string.lstrip())]
        where = f"{file}, line {original.line + blank.count(chr(10))}"  # empty lines before it count as its own
        variable = (key or "").upper()
        if wrong or value is None:
            problems.append(Problem(where, "NAME=value is expected; quotes have to be closed"))
        elif variable in VARIABLES:
            values[variable] = value
        elif variable in _ENVIRONMENT_ALONE:
            problems.append(Problem(where, f"{key} is read from the environment alone"))
        else:
            problems.append(Problem(where, f"{key} is no setting{did_you_mean(variable, VARIABLES)}"))
    return values


def _problem(name: str, message: str, found: object) -> Problem:
    secret = Settings.model_fields[name].repr is False
    unit = next((f", in {unit}" for end, unit in _UNITS.items() if name.endswith(end)), "")
    return Problem(
        f"{_PREFIX}{name.upper()}",
        message.removeprefix("Value error, ") if secret else f"{message}{unit}, but found {found!r}",
    )
