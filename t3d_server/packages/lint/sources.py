"""An algorithm folder as the checks see it: its files are parsed once, for all of them."""

from __future__ import annotations

import ast
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import cached_property
from warnings import catch_warnings, simplefilter

from t3d_server.packages.lint.nodes import top_level

STEPS = ("preprocess", "inference", "postprocess")
"""The methods of `Runner` that get data and args, and whose value is used."""


@dataclass(frozen=True)
class Source:
    """A Python file.

    Attributes:
        path: its path in the folder.
        content: its text, as it is stored.
        tree: its syntax tree; an empty one where it cannot be parsed.
        error: why it cannot be parsed.
    """

    path: str
    content: bytes
    tree: ast.Module
    error: Exception | None = None

    @cached_property
    def nodes(self) -> list[ast.AST]:
        """All nodes of the tree, each before those below it."""
        return list(ast.walk(self.tree))


@dataclass(frozen=True)
class Folder:
    """An algorithm folder, as the checks see it.

    Attributes:
        sources: its Python files by path.
        assets: paths of all other files.
        parameters: names of the parameters in its manifest.
        dependencies: requirements (PEP 508) in its manifest.
        where: how messages call this Python environment.
    """

    sources: Mapping[str, Source]
    assets: Collection[str] = ()
    parameters: Collection[str] = ()
    dependencies: Collection[str] = ()
    where: str = "here"

    @cached_property
    def nodes(self) -> list[ast.AST]:
        """All nodes of all files."""
        return [node for source in self.sources.values() for node in source.nodes]

    @cached_property
    def texts(self) -> set[str]:
        """All strings in the code."""
        return {node.value for node in self.nodes if isinstance(node, ast.Constant) and isinstance(node.value, str)}

    @cached_property
    def runner(self) -> ast.ClassDef | None:
        """The class `Runner` of `Runner.py`; None where it is imported or computed, or missing."""
        body = self.sources["Runner.py"].tree.body if "Runner.py" in self.sources else []
        classes = (node for node in top_level(body) if isinstance(node, ast.ClassDef))
        return next((node for node in classes if node.name == "Runner"), None)

    @cached_property
    def steps(self) -> list[ast.FunctionDef]:
        """Those of `STEPS` that `Runner` defines."""
        body = self.runner.body if self.runner else []
        return [node for node in body if isinstance(node, ast.FunctionDef) and node.name in STEPS]


def parse(files: Mapping[str, bytes]) -> dict[str, Source]:
    """Parse Python files, whose content is given by path."""
    sources = {}
    with catch_warnings():
        simplefilter("ignore")  # invalid escapes in strings are the author's business
        for path, content in files.items():
            try:
                sources[path] = Source(path, content, ast.parse(content, path))
            # The others: null bytes, and nesting that is too deep for the parser.
            except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
                sources[path] = Source(path, content, ast.Module([], []), error)
    return sources
