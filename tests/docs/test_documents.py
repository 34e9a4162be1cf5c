"""The documents are right: their blocks of code run as a reader would run them, and their links lead somewhere.

What stands in a document counts, in its order, in one folder and against the suite's server:

- `python` runs in one namespace, which has `np`, `image` and `stack`; with `import ray` in a process of its own. What
  begins with an indent is only compiled. A class `Runner` becomes an algorithm folder, which has to run by `t3d debug`
  on two images without a warning.
- `console` runs by bash, line by line, except for `NOT_RUN`.
- `toml` and `yaml` are parsed; algorithm manifests, and tables that are a part of one, by the server's own parser.
- A sentence that ends with "`path`:" makes the block after it a file of that name.
- `<!-- not run: REASON -->` before a block leaves it out.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import textwrap
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import tomli
import yaml
from markdown_it import MarkdownIt

from t3d_server import testing
from t3d_server.algorithm_utils.tags import load_tags
from t3d_server.cli.app import app
from t3d_server.models import LogLine, Manifest
from t3d_server.packages.manifest import parse_manifest

if TYPE_CHECKING:
    from tests.conftest import Server

ROOT = Path(__file__).parents[2]
DOCUMENTS = sorted(
    path
    for pattern in ("*.md", "docs/*.md", "algorithms/*/README.md", "examples/**/README.md", "deploy/**/*.md")
    for path in ROOT.glob(pattern)
)
RUN = re.compile(r"(t3d|pytest|curl|api|mkdir|cp|python examples/\w+\.py)\b|\w+=\S|\w+\(\)")
PLAIN_T3D = re.compile(r"t3d [^$|>;&`]*")
NOT_RUN = {
    "t3d up": "the suite's server is there already",
    "T3D_V0_PORT=": "the suite's server is there already",
    "export": "its values are examples",
    "source": "the suite runs in the environment already",
    "make": "installs, or runs all of the suite",
    "pip": "installs",
    ".venv/bin/pre-commit": "changes the checkout",
    "ray get-auth-token": "would make a token in the user's home",
    "docker": "is not on every machine",
    "kubectl": "there is no cluster",
    "helm": "there is no cluster",
    "sudo": "changes the machine",
    "systemctl": "changes the machine",
    "loginctl": "changes the machine",
}
"""Beginnings of command lines that are left out, each with the reason."""

PRELUDE = "import numpy as np\nimage = np.zeros((48, 64), np.uint8)\nstack = np.zeros((4, 48, 64), np.uint16)\n"
PROJECT = '[project]\nname = "example"\nversion = "1.0.0"\n'


@dataclass(frozen=True)
class Block:
    """A block of code: its language, its text, the line before it, and the file that it is, if it is one."""

    language: str
    text: str
    line: int
    path: str | None


def blocks(document: Path) -> list[Block]:
    """The blocks of a document that count."""
    found = []
    before = ""
    for token in MarkdownIt().parse(document.read_text("utf-8")):
        if token.type == "fence" and token.map is not None:
            named = re.search(r"`([\w./-]+\.\w+)`:$", before)
            if not re.match(r"<!-- not run: \S.* -->", before):
                found.append(Block(token.info.strip(), token.content, token.map[0] + 1, named[1] if named else None))
        if token.content:
            before = token.content.strip()
    return found


class Reader:
    """Does what a document says, in the folder `here`."""

    def __init__(self, document: Path, here: Path, server: Server, image: np.ndarray, stack: np.ndarray) -> None:
        self._document = document
        self._here = here
        self._server = server
        self._environment = dict(os.environ)
        self._image = image
        self._namespace: dict[str, Any] = {"np": np, "image": image.copy(), "stack": stack.copy()}

    def follow(self, block: Block) -> None:
        text = block.text.replace("127.0.0.1:8000", f"127.0.0.1:{self._server.port}")
        path = block.path
        if path is None and block.language == "python" and re.search(r"^class Runner\(", text, re.M):
            path = f"line-{block.line}/Runner.py"
        if path is not None:
            (self._here / path).parent.mkdir(parents=True, exist_ok=True)
            (self._here / path).write_text(text, "utf-8")
        elif block.language == "python":
            self._python(text, block.line)
        elif block.language == "console":
            self._console(text)
        if block.language == "toml":
            self._toml(text)
        if block.language == "yaml":
            list(yaml.safe_load_all(text))

    def finish(self) -> None:
        """Run the algorithm folders that have come together."""
        for runner in self._here.glob("*/Runner.py"):
            manifest = runner.with_name("pyproject.toml")
            if not manifest.exists():
                manifest.write_text(
                    PROJECT + 'dependencies = ["torch"]\n[tool.t3dserver]\nsupported_devices = ["cpu"]\n'
                )
            lines: list[LogLine] = []
            testing.run(runner.parent, [self._image, self._image], on_log=lines.append)
            assert not [line.message for line in lines if line.level == "WARNING"], runner.parent.name

    def _python(self, text: str, line: int) -> None:
        if text[0].isspace():
            compile(textwrap.dedent(text), str(self._document), "exec")
        elif "import ray" in text:
            self._ended([sys.executable, "-c", PRELUDE + text])
        else:
            # The lines before it, so that tracebacks name lines of the document.
            exec(compile("\n" * line + text, str(self._document), "exec"), self._namespace)

    def _console(self, text: str) -> None:
        for line in re.sub(r"\\\n\s*", "", text).splitlines():
            line = re.sub(r"(^|\s)#.*", "", line).strip()
            command = re.sub(r"^(\w+=[^\s$]\S*\s+)*", "", line)
            if not command or any(command.startswith(start) for start in NOT_RUN):
                continue
            assert RUN.match(command), f"{line!r}: say in RUN or NOT_RUN what becomes of it"
            if PLAIN_T3D.fullmatch(line):  # in this process: to start one takes longer than most commands
                app(shlex.split(line)[1:], standalone_mode=False)
            else:
                self._bash(line)

    def _bash(self, line: str) -> None:
        """Run a line; variables and functions are there for the next one."""
        variables = self._here / ".variables"
        self._ended(["bash", "-euo", "pipefail", "-c", f"set -a\n{line}\nenv -0 > {variables}"])
        pairs = (entry.partition("=") for entry in variables.read_text().split("\0") if entry)
        self._environment = {name: value for name, _, value in pairs}

    def _ended(self, command: list[str]) -> None:
        ended = subprocess.run(command, env=self._environment, capture_output=True, text=True, timeout=200)
        assert ended.returncode == 0, f"{command[-1]}\n{ended.stdout}\n{ended.stderr}"

    def _toml(self, text: str) -> None:
        content = tomli.loads(text)
        if content.keys() <= Manifest.model_fields.keys():
            text = f"[tool.t3dserver]\n{text}"
        if "[tool.t3dserver]" in text:
            _, warnings = parse_manifest(text if "project" in content else PROJECT + text, tags=load_tags())
            assert not warnings


@pytest.mark.parametrize(
    "document", [path for path in DOCUMENTS if blocks(path)], ids=lambda path: str(path.relative_to(ROOT))
)
def test_blocks_of_code_run(document: Path, here: Path, server: Server, image: np.ndarray, stack: np.ndarray) -> None:
    reader = Reader(document, here, server, image, stack)
    for block in blocks(document):
        reader.follow(block)
    reader.finish()


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_to_files_that_are_there(document: Path) -> None:
    links = re.findall(r"\]\((?!https?:|#)([^)#\s]+)", document.read_text("utf-8"))
    assert [link for link in links if not (document.parent / link).exists()] == []
