"""
The drawing in C{docs/architecture.md}, kept true: who may import whom, and what must not be there.

Imports are read from the source, so that one inside a function or below C{TYPE_CHECKING} counts as well.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

ROOT = Path(__file__).resolve().parent.parent
PROJECT = "mem_continuity"

SANS_IO = ("core", "imap")
"""Below these nothing imports C{twisted.internet}, not even by way of another module."""

MAY_IMPORT = {
    "core": {"core"},
    "imap": {"imap", "core.policy"},
    "interfaces": {"core.policy", "directory.record", "gateway.upstream"},
    "directory": {"directory", "core", "interfaces"},
    "layer": {"layer", "core", "interfaces"},
    "server": {"server", "layer", "core", "imap", "directory", "interfaces"},
    "gateway": {"gateway", "server", "layer", "core", "imap", "directory", "interfaces"},
    "client": {"client", "layer", "core", "imap", "directory", "interfaces"},
    "mailhost": {"mailhost", "core", "imap", "interfaces"},
    "agent": {
        *("agent", "client", "layer", "core", "imap", "interfaces", "service", "options", ""),
        *("gateway.brake", "gateway.errors", "gateway.greeting", "gateway.trust", "gateway.upstream"),
        *("mailhost.certificate", "mailhost.first_start", "mailhost.index", "server.listening"),
    },
}
"""What each part of the project may import of the project."""

KNOWS_ALL = {"ops", "tap", "service", "options", ""}
"""The parts that may import all others but C{tap}; the empty name is the package itself, with the public names."""

IMPORT_ALL = """
import importlib, sys
for name in sys.argv[1:]:
    importlib.import_module(name)
    if "twisted.internet.reactor" in sys.modules:
        sys.exit(f"{name} installs a reactor when it is imported")
"""

IMPORT_BARE = """
import importlib, sys, types
# The package itself gives out names of all its parts, so only an empty one tells what a part needs by itself.
package = types.ModuleType(sys.argv[1])
package.__path__ = [sys.argv[2]]
sys.modules[sys.argv[1]] = package
for name in sys.argv[3:]:
    importlib.import_module(name)
found = sorted(name for name in sys.modules if name.split(".")[:2] == ["twisted", "internet"])
if found:
    sys.exit("loaded: " + ", ".join(found))
"""


def sources(root: Path) -> dict[str, Path]:
    """
    The modules of the project by their names; a package has the name of its folder.
    """
    found = {}
    for path in sorted((root / PROJECT).rglob("*.py")):
        parts = path.relative_to(root).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imports_of(name: str, is_package: bool, text: str) -> Iterator[str]:
    """
    Every dotted name that a module imports, anywhere in it; C{from a import b} gives C{a.b}.
    """
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                above = name.split(".")
                above = above[: len(above) - node.level + is_package]
                base = ".".join([*above, base] if base else above)
            yield from (f"{base}.{alias.name}" for alias in node.names)


def within(name: str, package: str) -> bool:
    return name == package or name.startswith(package + ".")


class Imports:
    """
    The import graph of the project.

    @ivar outer: module name -> names that it imports from elsewhere.
    @ivar inner: module name -> modules of the project that it imports.
    """

    def __init__(self, root: Path) -> None:
        modules = sources(root)
        self.outer: dict[str, set[str]] = {}
        self.inner: dict[str, set[str]] = {}
        for name, path in modules.items():
            names = set(imports_of(name, path.name == "__init__.py", path.read_text("utf-8")))
            self.outer[name] = {one for one in names if not within(one, PROJECT)}
            self.inner[name] = set()
            for one in names - self.outer[name]:
                # The last part may be a class or a function, and everything above is a module.
                while one not in modules:
                    one = one.rpartition(".")[0]
                self.inner[name].add(one)

    def reach(self, name: str) -> set[str]:
        """
        The modules of the project that come along with this one, itself included.
        """
        seen: set[str] = set()
        waiting = {name}
        while waiting:
            one = waiting.pop()
            seen.add(one)
            waiting |= self.inner[one] - seen
        return seen


def part_of(name: str) -> str:
    """
    C{core} of C{mem_continuity.core.frames}; empty for the package itself.
    """
    return name.split(".")[1] if "." in name else ""


class LayoutTests(SynchronousTestCase):
    """
    The tree as it lies in the checkout.
    """

    timeout = 120

    def setUp(self) -> None:
        self.imports = Imports(ROOT)

    def test_plugin_folders_are_no_packages(self) -> None:
        """
        An C{__init__.py} in C{twisted/} or C{twisted/plugins/} would hide Twisted itself.
        """
        self.assertTrue((ROOT / "twisted" / "plugins" / "mem_continuity_service.py").is_file())
        self.assertEqual(list((ROOT / "twisted").rglob("__init__.py")), [])

    def test_folders_with_code_are_packages(self) -> None:
        """
        A folder without C{__init__.py} would be left out of the wheel, and its tests would never be found.
        """
        for top in (PROJECT, "tests"):
            folders = {path.parent for path in (ROOT / top).rglob("*.py")}
            missing = sorted(str(one.relative_to(ROOT)) for one in folders if not (one / "__init__.py").is_file())
            self.assertEqual(missing, [])

    def test_sans_io(self) -> None:
        """
        Nothing below the sans-IO packages imports C{twisted.internet}, directly or by way of the project.
        """
        wrong: list[str] = []
        for name in self.imports.inner:
            if part_of(name) in SANS_IO:
                for one in self.imports.reach(name):
                    found = sorted(outer for outer in self.imports.outer[one] if within(outer, "twisted.internet"))
                    wrong.extend(f"{name} by {one}: {outer}" for outer in found)
        self.assertEqual(wrong, [])

    def test_sans_io_when_it_runs(self) -> None:
        """
        The same, seen from what is loaded after they were imported: no library brings it along either.
        """
        names = [name for name in self.imports.inner if part_of(name) in SANS_IO]
        self.assertIn("mem_continuity.core.policy", names)
        self.run_python(IMPORT_BARE, PROJECT, str(ROOT / PROJECT), *names)

    def test_dependencies_point_one_way(self) -> None:
        """
        Each part imports only the parts below it, and nobody imports C{tap}.
        """
        wrong = []
        for name, inner in self.imports.inner.items():
            part = part_of(name)
            if part not in KNOWS_ALL and part not in MAY_IMPORT:
                wrong.append(f"{name} belongs to no part that MAY_IMPORT names")
                continue
            for one in inner:
                target = one.removeprefix(PROJECT).removeprefix(".")
                allowed = part in KNOWS_ALL or any(within(target, each) for each in MAY_IMPORT[part])
                if not allowed or part_of(one) == "tap":
                    wrong.append(f"{name} imports {one}")
        self.assertEqual(sorted(wrong), [])

    def test_no_reactor_at_import(self) -> None:
        """
        No module installs a reactor when it is imported: that is for the program that hosts it to do.
        """
        self.run_python(IMPORT_ALL, *self.imports.inner)

    def test_plugin_imports_nothing_of_the_project(self) -> None:
        """
        Every C{twistd} on the system reads our service plugins, whatever it was started for.
        """
        path = ROOT / "twisted" / "plugins" / "mem_continuity_service.py"
        names = list(imports_of("mem_continuity_service", False, path.read_text("utf-8")))
        self.assertEqual([name for name in names if within(name, PROJECT)], [])

    def run_python(self, program: str, *arguments: str) -> None:
        command = [sys.executable, "-c", program, *arguments]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=100, check=False)
        self.assertEqual((done.returncode, done.stderr), (0, ""))


class ImportsTests(SynchronousTestCase):
    """
    The reading of imports itself, so that the tests above cannot be green for want of sight.
    """

    def names(self, text: str, name: str = "mem_continuity.core.one", is_package: bool = False) -> list[str]:
        return list(imports_of(name, is_package, text))

    def test_forms(self) -> None:
        self.assertEqual(self.names("import twisted.internet.defer as d"), ["twisted.internet.defer"])
        self.assertEqual(self.names("from twisted.internet import reactor"), ["twisted.internet.reactor"])
        self.assertEqual(self.names("from twisted import internet"), ["twisted.internet"])

    def test_lazy(self) -> None:
        self.assertEqual(self.names("def f():\n  if True:\n    import twisted.internet"), ["twisted.internet"])

    def test_relative(self) -> None:
        self.assertEqual(self.names("from .policy import Policy"), ["mem_continuity.core.policy.Policy"])
        self.assertEqual(self.names("from .. import tap"), ["mem_continuity.tap"])
        self.assertEqual(self.names("from . import one", "mem_continuity.core", True), ["mem_continuity.core.one"])

    def test_reach(self) -> None:
        """
        What a module imports by way of others is found, in a circle as well.
        """
        root = Path(self.mktemp())
        package = root / PROJECT
        package.mkdir(parents=True)
        for name, text in (
            ("__init__", ""),
            ("a", "from mem_continuity.b import thing"),
            ("b", "from mem_continuity import c"),
            ("c", "import mem_continuity.a, twisted.internet.defer"),
        ):
            (package / f"{name}.py").write_text(text, "utf-8")
        found = Imports(root)
        self.assertEqual(found.reach("mem_continuity.a"), {f"mem_continuity.{name}" for name in "abc"})
        self.assertEqual(found.outer["mem_continuity.c"], {"twisted.internet.defer"})
