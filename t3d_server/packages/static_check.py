"""What can be told of an author's code without running it."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator, Mapping
from warnings import catch_warnings, simplefilter

from t3d_server.errors import Problem
from t3d_server.packages.distributions import installed_package
from t3d_server.packages.modules import RESERVED, module_names
from t3d_server.packages.returns import check_returns

# Arguments beside `self`.
_METHODS = {"__init__": 0, "load_assets": 0, "preprocess": 2, "inference": 2, "postprocess": 2}
_BREAKPOINTS = {"breakpoint", "set_trace"}


def check_code(files: Mapping[str, bytes]) -> tuple[list[Problem], list[str]]:
    """Check all Python files of an algorithm folder.

    Args:
        files: content by path; `Runner.py` is one of them.

    Returns:
        Problems: syntax errors of any file, a `Runner` that is missing or whose methods the server cannot call.
        And warnings: methods where a `return` is missing, breakpoints, modules that take the name of others.
    """
    problems: list[Problem] = []
    warnings: list[str] = []
    if "Runner/__init__.py" in files:
        problems.append(Problem("Runner/", "would be imported in place of Runner.py; rename it"))
    for path, content in files.items():
        try:
            tree = parse(content, path)
        # The others: null bytes, and nesting that is too deep for the parser.
        except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
            if isinstance(error, SyntaxError) and error.text:
                problems.append(Problem(f"{path}:{error.lineno}", f"{error.msg}: {error.text.strip():.100}"))
            else:
                problems.append(Problem(path, f"cannot be parsed: {error}"))
        else:
            warnings += _breakpoints(tree, path)
            if path == "Runner.py":
                problems += _check_runner(tree)
                warnings += _forgotten_returns(tree)
    return problems, [*warnings, *_shadowed(files)]


def parse(content: bytes, path: str) -> ast.Module:
    """The syntax tree of a Python file."""
    with catch_warnings():
        # Invalid escapes in strings are the author's business.
        simplefilter("ignore")
        return ast.parse(content, path)


def find_runner(tree: ast.Module) -> ast.ClassDef | None:
    """The class `Runner` of `Runner.py`; None where it is imported or computed, or missing."""
    classes = (node for node in _top_level(tree.body) if isinstance(node, ast.ClassDef))
    return next((node for node in classes if node.name == "Runner"), None)


def _check_runner(tree: ast.Module) -> list[Problem]:
    runner = find_runner(tree)
    if runner is None:
        # Imported or computed: only the import can tell.
        bound = any("Runner" in _bound_names(node) for node in _top_level(tree.body))
        return [] if bound else [Problem("Runner.py", "defines no class named Runner")]
    problems = []
    if not [base for base in runner.bases if not (isinstance(base, ast.Name) and base.id == "object")]:
        problems.append(
            Problem(
                f"Runner.py:{runner.lineno}",
                "class Runner inherits from nothing; it must inherit from BaseRunner or the class of its type, "
                "such as t3d_server.algorithm_utils.Image2ImageRunner",
            )
        )
    for node in runner.body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name in _METHODS:
            problems += [Problem(f"Runner.py:{node.lineno}", f"{node.name} {fault}") for fault in _faults(node)]
    return problems


def _faults(method: ast.FunctionDef | ast.AsyncFunctionDef) -> Iterator[str]:
    if isinstance(method, ast.AsyncFunctionDef):
        yield "is `async def`; it is called in a thread of its own: write `def`"
    decorators = {node.id for node in method.decorator_list if isinstance(node, ast.Name)}
    given = _METHODS[method.name] + ("staticmethod" not in decorators)
    arguments = method.args
    names = [argument.arg for argument in (*arguments.posonlyargs, *arguments.args)]
    required = len(names) - len(arguments.defaults)
    keyword_only = [
        argument.arg
        for argument, default in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)
        if default is None
    ]
    if required > given or (len(names) < given and arguments.vararg is None) or keyword_only:
        expected = ["self", "data", "args"][: given + 1] if _METHODS[method.name] else ["self"]
        yield f"is called as {method.name}({', '.join(expected)}), but is defined with ({ast.unparse(arguments)})"


def _top_level(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """Statements of the module, also those under `if`, `try` and `with`; an `elif` is one in an `else`."""
    waiting = body[::-1]
    while waiting:
        node = waiting.pop()
        yield node
        if isinstance(node, ast.If | ast.Try | ast.With):
            handled = [statement for handler in getattr(node, "handlers", []) for statement in handler.body]
            below = [*node.body, *getattr(node, "orelse", []), *handled, *getattr(node, "finalbody", [])]
            waiting += below[::-1]


def _bound_names(node: ast.stmt) -> set[str]:
    if isinstance(node, ast.Import | ast.ImportFrom):
        names = {alias.asname or alias.name for alias in node.names}
        return {"Runner"} if "*" in names else names
    return {name.id for name in ast.walk(node) if isinstance(name, ast.Name) and isinstance(name.ctx, ast.Store)}


def _forgotten_returns(tree: ast.Module) -> Iterator[str]:
    runner = find_runner(tree)
    names = {name for name, arguments in _METHODS.items() if arguments}
    return check_returns(runner.body if runner else [], names)


def _breakpoints(tree: ast.Module, path: str) -> Iterator[str]:
    names = [
        (node.lineno, getattr(node.func, "id", getattr(node.func, "attr", "")))
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
    ]
    for line in sorted(line for line, name in names if name in _BREAKPOINTS):
        yield f"{path}:{line}: a breakpoint: `t3d debug` stops there, but on a server nobody can go on from it"


def _shadowed(files: Mapping[str, bytes]) -> Iterator[str]:
    """Modules that other code, or the author, may mean something else by; one warning for each."""
    for name, path in module_names(files).items():
        if "." in name or name == "__main__":  # which nobody imports
            continue
        if name in RESERVED:
            whose = "module of Python's library" if name in sys.stdlib_module_names else "one that the server needs"
            yield f"{path}: `import {name}` gives the {whose}, not this one; rename it"
        elif package := installed_package(name):
            yield f"{path}: hides the installed package {package} from all code of the algorithm; rename it"
