"""The imports of one algorithm folder, kept apart from everything else in the process."""

from __future__ import annotations

import importlib
import pkgutil
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType

from t3d_server import algorithm_utils
from t3d_server.packages.folder import scan
from t3d_server.packages.modules import RESERVED, module_names

# The old name of `t3d_server.algorithm_utils`, by which existing modules import it.
_OLD_NAME = "algorithms"

_switch = threading.Condition()
_installed: ModuleSpace | None = None
_users = 0
_thread = threading.local()


class ModuleSpace(MetaPathFinder):
    """The modules of one algorithm folder.

    While it is active, `.py` files of the folder, and of its `files` folder, are imported by plain name, before
    anything else of that name; otherwise none of them is in `sys.modules`, so that two algorithms with equal
    names never meet. `algorithms` leads to `t3d_server.algorithm_utils`, but for what the folder itself has there.

    Attributes:
        modules: path of each module that the folder provides, by its dotted name.
        names: the top-level ones of these names.
        warnings: what was noticed while its code was imported.
    """

    def __init__(self, folder: Path) -> None:
        self.modules = module_names(scan(folder)[0])
        self.names = {name for name in self.modules if "." not in name} - RESERVED
        self.warnings: list[str] = []
        self._folder = folder
        self._roots = [str(folder), str(folder / "files")]
        self._added = self._roots
        self._modules: dict[str, ModuleType] = {}
        self._displaced: dict[str, ModuleType] = {}
        self._outer_path: list[str] = []
        self._outer_modules: set[str] = set()
        self._wrote_bytecode = False

    @contextmanager
    def active(self) -> Iterator[None]:
        """Makes the folder's modules those that are imported and found in `sys.modules`.

        Several threads may be in it at once. A thread that wants another folder's waits.

        Raises:
            RuntimeError: this thread is in another folder's already.
        """
        global _installed, _users
        outer = getattr(_thread, "space", None)
        if outer not in (None, self):
            raise RuntimeError("Code of one algorithm cannot load or run another one in its own thread.")
        with _switch:
            _switch.wait_for(lambda: _installed in (None, self))
            if _installed is None:
                self._install()
                _installed = self
            _users += 1
        _thread.space = self
        try:
            yield
        finally:
            _thread.space = outer
            with _switch:
                _users -= 1
                if _users == 0:
                    self._uninstall()
                    _installed = None
                    _switch.notify_all()

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Finds modules of the folder and those that `algorithms` stands for; part of Python's import protocol."""
        top, _, below = fullname.partition(".")
        if top not in self.names and top != _OLD_NAME:
            return None
        spec = PathFinder.find_spec(fullname, self._roots if path is None else path) if top in self.names else None
        if spec is None and top == _OLD_NAME:
            return self._alias(fullname, below)
        if spec is not None and spec.loader is None and spec.submodule_search_locations is not None:
            # A folder without __init__.py; what PathFinder gives would look in the whole of sys.path again later.
            spec.submodule_search_locations = list(spec.submodule_search_locations)
        return spec

    def _alias(self, fullname: str, below: str) -> ModuleSpec | None:
        package = algorithm_utils.__name__
        submodules = [info.name for info in pkgutil.iter_modules(algorithm_utils.__path__)]
        if below and below not in submodules:
            return None
        old_name = f"`{fullname}` is the old name of `{package}{'.' + below if below else ''}`; import it from there"
        if old_name not in self.warnings:
            self.warnings.append(old_name)
        names = [below] if below else ["", *submodules]
        return ModuleSpec(
            fullname,
            _AliasLoader(
                {
                    f"{_OLD_NAME}.{name}".removesuffix("."): importlib.import_module(f"{package}.{name}".rstrip("."))
                    for name in names
                }
            ),
        )

    def _install(self) -> None:
        self._displaced = {name: sys.modules.pop(name) for name in list(sys.modules) if self._claims(name)}
        sys.modules.update(self._modules)
        self._outer_modules = set(sys.modules)
        self._outer_path = list(sys.path)
        sys.path += self._added
        sys.meta_path.insert(0, self)
        # Nothing is to appear in the author's folder.
        self._wrote_bytecode, sys.dont_write_bytecode = not sys.dont_write_bytecode, True

    def _uninstall(self) -> None:
        sys.dont_write_bytecode = not self._wrote_bytecode
        sys.meta_path.remove(self)
        # With what the author's code has added, which its later imports may need.
        self._added = [entry for entry in sys.path if entry not in self._outer_path]
        sys.path[:] = self._outer_path
        self._modules = {name: sys.modules.pop(name) for name in list(sys.modules) if self._owns(name)}
        sys.modules.update(self._displaced)

    def _claims(self, name: str) -> bool:
        top = name.partition(".")[0]
        return top in self.names or top == _OLD_NAME or name in self._modules

    def _owns(self, name: str) -> bool:
        if name in self._outer_modules:
            return name in self._modules
        if self._claims(name):
            return True
        # Imported by a path that the author's code put on sys.path.
        file = getattr(sys.modules[name], "__dict__", {}).get("__file__")
        return isinstance(file, str) and Path(file).is_relative_to(self._folder)


class _AliasLoader(Loader):
    """Puts modules that exist already into `sys.modules` under another name."""

    def __init__(self, modules: dict[str, ModuleType]) -> None:
        self._modules = modules

    def exec_module(self, module: ModuleType) -> None:
        sys.modules.update(self._modules)
