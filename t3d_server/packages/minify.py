"""Minifies an author's code without changing what it does: the one file that knows `python_minifier`."""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Iterator, Mapping

import python_minifier

from t3d_server.errors import InvalidPackageError, Problem

_WORD = re.compile(r"[^\W\d]\w*")
_READING_DOCSTRINGS = ("__doc__", "getdoc", "use_attribute_docstrings")


def minify(files: Mapping[str, bytes]) -> dict[str, bytes]:
    """Minify Python files: comments, docstrings and names of local variables go.

    What other code can see stays: names of modules, functions, classes, attributes and arguments, and every
    annotation, which pydantic, dataclasses, `singledispatch` and `torch.jit.script` read.

    Args:
        files: sources that parse, by path.

    Returns:
        The minified sources, UTF-8, by path.

    Raises:
        InvalidPackageError: a file cannot be minified.
    """
    sources = {path: _decode(content) for path, content in files.items()}
    # One module may read the docstrings of another.
    keep_docstrings = any(word in source for word in _READING_DOCSTRINGS for source in sources.values())
    minified = {}
    problems = []
    for path, source in sources.items():
        try:
            text = python_minifier.minify(
                source,
                filename=path,
                remove_annotations=False,
                remove_literal_statements=not keep_docstrings,
                # Hoisted literals become names of the module, which `from module import *` would carry elsewhere.
                hoist_literals=False,
                rename_globals=False,
                rename_locals=True,
                preserve_locals=sorted(set(_names_to_keep(ast.parse(source)))),
                # f(a, /, **kwargs) may be called with a second `a`.
                convert_posargs_to_args=False,
            )
        # python_minifier raises bare Exceptions of its own making for what it does not know.
        except Exception as error:  # noqa: BLE001
            problems.append(Problem(path, f"{type(error).__name__}: {error}"))
        else:
            minified[path] = text.encode()
    if problems:
        raise InvalidPackageError("Code that cannot be minified; set obfuscate = false.", problems=problems)
    return minified


def _decode(content: bytes) -> str:
    encoding, _ = tokenize.detect_encoding(io.BytesIO(content).readline)
    return content.decode(encoding)


def _names_to_keep(tree: ast.Module) -> Iterator[str]:
    """Local names that must not change.

    Names in strings: quoted annotations, and expressions that numexpr or pandas evaluate in the caller's frame.
    Functions and classes inside functions: tracebacks, `__name__` and `__qualname__` show them.
    """
    docstrings = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings:
            yield from _WORD.findall(node.value)
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.name
