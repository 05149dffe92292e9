"""The arrows between the rooms, and what no room does, read from the source text.

Each rule is a function from the parsed modules to the lines that break it. So each rule has a
control, a made-up module that breaks it and nothing else.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[1]
ROOMS = ("vault", "ledger", "anchor", "policy", "commands")

# The arrows: which part may import which other ones. The benchmarks drive everything but the CLI.
MAY_IMPORT = {
    "policy": set(),
    "ledger": set(),
    "anchor": {"ledger"},
    "vault": {"policy", "ledger", "anchor"},
    "commands": {"vault", "policy", "ledger", "anchor"},
    "cli": {"commands", "vault", "policy", "ledger", "anchor"},
    "bench": {"commands", "vault", "policy", "ledger", "anchor"},
}

# Pure: no I/O, and no module of their room that does any. `policy` is pure as a whole.
PURE_LEDGER = (
    "commitment entry merkle tiles note checkpoint tlogproof pointer errors fault"
    " cosignature logkeys witnesspolicy action approval governance governancestate sequence"
)
PURE = {f"ledger.{name}" for name in PURE_LEDGER.split()} | {
    "ledger",
    "vault",
    "vault.cipher",
    "vault.keynode",
    "vault.errors",
}
DATABASES_AND_NETWORKS = {"sqlalchemy", "alembic", "sqlite3", "boto3", "socket", "ssl", "http"}
NETWORKS = {"socket", "ssl", "http", "urllib", "boto3", "botocore", "requests", "httpx"}
IMPURE_LIBRARIES = DATABASES_AND_NETWORKS | {
    *("urllib", "subprocess", "threading", "multiprocessing", "pathlib", "shutil", "tempfile"),
    *("fcntl", "io", "time", "logging"),
}

LIBRARIES = {
    *("alembic", "boto3", "click", "cryptography", "nacl", "rich", "shamir_mnemonic"),
    "sqlalchemy",
    # Those that serve over HTTP.
    *("starlette", "uvicorn"),
    # Those of root key providers, which keep keys where this software cannot reach them.
    *("botocore", "hvac", "pkcs11", "requests"),
    # Those of signed PDFs.
    *("asn1crypto", "font_source_sans_pro", "fpdf", "pyhanko", "pyhanko_certvalidator"),
}
# What the benchmarks alone import, to be measured beside it.
PEERS = {"pymerkle"}
DESERIALISERS = {"pickle", "cPickle", "dill", "marshal", "shelve", "yaml", "ruamel", "jsonpickle"}
# Anything else that encrypts, hashes or draws is a second source of cryptography. `secrets` is not:
# it hands on the operating system's randomness.
SECOND_SOURCES = {"random", "uuid", "crypt"}
SAMPLE_DATA = {"commands.lifelike", "commands.lifelike_words"}


@dataclass(frozen=True)
class Import:
    """One imported module.

    Attributes:
        name: dotted, as far as it is written; for `from a import b`, a.b.
        line: in the source.
        at_import_time: not within a function or under TYPE_CHECKING.
    """

    name: str
    line: int
    at_import_time: bool

    @property
    def root(self) -> str:
        return self.name.partition(".")[0]


@dataclass(frozen=True)
class Module:
    """One source file.

    Attributes:
        name: dotted; a package's is that of its `__init__`.
        source: its text.
        is_package: it is an `__init__`.
    """

    name: str
    source: str
    is_package: bool = False

    @property
    def part(self) -> str:
        return self.name.partition(".")[0]

    @cached_property
    def tree(self) -> ast.Module:
        return ast.parse(self.source)

    @cached_property
    def imports(self) -> list[Import]:
        return list(self._imports(self.tree, True))

    def calls(self) -> Iterator[tuple[str, ast.Call]]:
        """Each call with the dotted name of what is called."""
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Call):
                yield ast.unparse(node.func), node

    def _imports(self, node: ast.AST, at_import_time: bool) -> Iterator[Import]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.Import):
                for alias in child.names:
                    yield Import(alias.name, child.lineno, at_import_time)
            elif isinstance(child, ast.ImportFrom):
                base = self._base(child)
                for alias in child.names:
                    yield Import(f"{base}.{alias.name}", child.lineno, at_import_time)
            elif isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
                for statement in child.body:
                    yield from self._imports(ast.Module([statement], []), False)
                for statement in child.orelse:
                    yield from self._imports(ast.Module([statement], []), at_import_time)
            else:
                function = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
                yield from self._imports(child, at_import_time and not function)

    def _base(self, node: ast.ImportFrom) -> str:
        if not node.level:
            return node.module or ""
        package = self.name.split(".") if self.is_package else self.name.split(".")[:-1]
        base = package[: len(package) - node.level + 1]
        return ".".join([*base, *([node.module] if node.module else [])])


Modules = dict[str, Module]
Rule = Callable[[Modules], list[str]]


def read_modules() -> Modules:
    paths = [REPOSITORY / "cli.py"]
    for part in (*ROOMS, "bench"):
        paths += sorted((REPOSITORY / part).rglob("*.py"))
    modules = {}
    for path in paths:
        relative = path.relative_to(REPOSITORY).with_suffix("")
        is_package = relative.name == "__init__"
        name = ".".join(relative.parent.parts if is_package else relative.parts)
        modules[name] = Module(name, path.read_text(encoding="utf-8"), is_package)
    return modules


def owner(modules: Modules, name: str) -> str | None:
    """The longest of our modules that an imported name lies in."""
    while name:
        if name in modules:
            return name
        name = name.rpartition(".")[0]
    return None


def is_pure(name: str) -> bool:
    return name in PURE or name.partition(".")[0] == "policy"


# The rules: each returns "module:line what" for what breaks it.


def arrows(modules: Modules) -> list[str]:
    """Each part imports only the parts that its arrows point to; nothing imports cli or tests."""
    found = []
    for module in modules.values():
        allowed = MAY_IMPORT[module.part] | {module.part}
        for one in module.imports:
            if one.root in {*MAY_IMPORT, "tests"} and one.root not in allowed:
                found.append(f"{module.name}:{one.line} imports {one.name}")
            elif one.root == "cli":
                found.append(f"{module.name}:{one.line} imports cli")
    return found


def imports_by_name(modules: Modules) -> list[str]:
    """No import that this page cannot see, but for the two places that load lazily."""
    found = []
    for module in modules.values():
        for name, call in module.calls():
            dynamic = name.rpartition(".")[2] in {"import_module", "__import__"}
            if dynamic and module.name not in {"cli", "vault"}:
                found.append(f"{module.name}:{call.lineno} calls {name}")
    return found


def click_in_commands_alone(modules: Modules) -> list[str]:
    """Only the CLI, its commands and the benchmarks' own command line import click."""
    return [
        f"{module.name}:{one.line} imports click"
        for module in modules.values()
        for one in module.imports
        if one.root == "click" and module.part not in {"cli", "commands", "bench"}
    ]


def pure_modules(modules: Modules) -> list[str]:
    """Pure modules import pure siblings, nothing that does I/O, and of os only urandom."""
    found = []
    for module in modules.values():
        if not is_pure(module.name):
            continue
        for one in module.imports:
            lazily = module.name == "vault" and not one.at_import_time
            sibling = owner(modules, one.name)
            if sibling is not None and not is_pure(sibling) and not lazily:
                found.append(f"{module.name}:{one.line} imports stateful {sibling}")
            if one.root in IMPURE_LIBRARIES or (one.root == "os" and one.name != "os"):
                found.append(f"{module.name}:{one.line} imports {one.name}")
        for node in ast.walk(module.tree):
            text = ast.unparse(node) if isinstance(node, ast.Attribute) else ""
            if text.startswith("os.") and text != "os.urandom":
                found.append(f"{module.name}:{node.lineno} uses {text}")
        for name, call in module.calls():
            if name in {"open", "print", "input"} or name.endswith((".now", ".today", ".utcnow")):
                found.append(f"{module.name}:{call.lineno} calls {name}")
    return found


def no_circle(modules: Modules) -> list[str]:
    """No module imports itself by way of others while it is being imported."""
    edges = {
        module.name: {
            target
            for one in module.imports
            if one.at_import_time
            and (target := owner(modules, one.name)) not in {None, module.name}
        }
        for module in modules.values()
    }
    found, done = [], set()

    def visit(name: str, path: tuple[str, ...]) -> None:
        if name in path:
            found.append(" -> ".join([*path[path.index(name) :], name]))
        elif name not in done:
            for target in sorted(edges[name]):
                visit(target, (*path, name))
            done.add(name)

    for name in sorted(edges):
        visit(name, ())
    return found


def nothing_that_runs_data(modules: Modules) -> list[str]:
    """No format that can carry code, and no text that is run."""
    found = []
    for module in modules.values():
        for one in module.imports:
            if one.root in DESERIALISERS:
                found.append(f"{module.name}:{one.line} imports {one.name}")
        for name, call in module.calls():
            if name.removeprefix("builtins.") in {"eval", "exec"}:
                found.append(f"{module.name}:{call.lineno} calls {name}")
    return found


def networks_in_their_places(modules: Modules) -> list[str]:
    """In these two rooms only what is made for it touches a network; policy is pure anyway."""
    return [
        f"{module.name}:{one.line} imports {one.name}"
        for module in modules.values()
        for one in module.imports
        if one.root in NETWORKS
        and module.part in {"ledger", "commands"}
        and not module.name.startswith("ledger.net")
    ]


def known_libraries(modules: Modules) -> list[str]:
    """Python's own library, the declared dependencies, our own parts; peers in bench alone."""
    known = set(sys.stdlib_module_names) | LIBRARIES | set(MAY_IMPORT)
    return [
        f"{module.name}:{one.line} imports {one.name}"
        for module in modules.values()
        for one in module.imports
        if one.root not in known and not (module.part == "bench" and one.root in PEERS)
    ]


def one_source_of_cryptography(modules: Modules) -> list[str]:
    """Primitives come from cryptography, nacl, hashlib and hmac; randomness from the system."""
    found = []
    for module in modules.values():
        for one in module.imports:
            known = one.root in LIBRARIES | set(sys.stdlib_module_names) | set(MAY_IMPORT)
            second = one.root in SECOND_SOURCES or not known
            if second and module.name not in SAMPLE_DATA and module.part in ROOMS:
                found.append(f"{module.name}:{one.line} imports {one.name}")
        for name, call in module.calls():
            if name in {"hashlib.md5", "hashlib.sha1", "hashlib.new"}:
                found.append(f"{module.name}:{call.lineno} calls {name}")
    return found


def no_assert(modules: Modules) -> list[str]:
    """`python -O` takes asserts out, so none stands for a check."""
    return [
        f"{module.name}:{node.lineno} asserts"
        for module in modules.values()
        if module.part in {*ROOMS, "cli"}
        for node in ast.walk(module.tree)
        if isinstance(node, ast.Assert)
    ]


RULES: list[Rule] = [
    arrows,
    imports_by_name,
    click_in_commands_alone,
    pure_modules,
    no_circle,
    nothing_that_runs_data,
    networks_in_their_places,
    known_libraries,
    one_source_of_cryptography,
    no_assert,
]

MODULES = read_modules()


def test_every_room_is_read():
    counts = {part: sum(m.part == part for m in MODULES.values()) for part in MAY_IMPORT}
    imports = [one for module in MODULES.values() for one in module.imports]
    print(f"{len(MODULES)} modules, {len(imports)} imported names: {counts}")
    assert all(counts[part] for part in (*ROOMS, "cli"))
    assert {name for name in PURE if name not in MODULES} == set()
    assert sum(one.root in MAY_IMPORT for one in imports) > 200
    assert sum(not one.at_import_time for one in imports) > 20
    folders = {path.parent.name for path in REPOSITORY.glob("*/__init__.py")}
    assert folders <= {*ROOMS, "bench"}, "a room that no arrow speaks of"


@pytest.mark.parametrize("rule", RULES, ids=[rule.__name__ for rule in RULES])
def test_the_rule_holds(rule):
    assert rule(MODULES) == []


# For each rule, source texts that break it: (module, text, what is reported).
BROKEN: list[tuple[Rule, str, str, str]] = [
    (arrows, "policy.made_up", "import ledger.entry", "imports ledger.entry"),
    (arrows, "policy.made_up", "from vault.core import Core", "imports vault.core.Core"),
    (arrows, "ledger.made_up", "from policy import Decision", "imports policy.Decision"),
    (arrows, "ledger.made_up", "def f():\n    import anchor", "imports anchor"),
    (arrows, "ledger.made_up", "if TYPE_CHECKING:\n    import vault.core", "imports vault.core"),
    (arrows, "ledger.made_up", "try:\n    import vault\nexcept E:\n    pass", "imports vault"),
    (arrows, "anchor.made_up", "from vault import Vault", "imports vault.Vault"),
    (arrows, "anchor.made_up", "import policy", "imports policy"),
    (arrows, "vault.made_up", "import commands.context", "imports commands.context"),
    (arrows, "vault.made_up", "from cli import main", "imports cli.main"),
    (arrows, "commands.made_up", "import cli", "imports cli"),
    (arrows, "bench.made_up", "import cli", "imports cli"),
    (arrows, "vault.made_up", "from tests.helpers import x", "imports tests.helpers.x"),
    (imports_by_name, "ledger.made_up", "importlib.import_module('vault')", "import_module"),
    (imports_by_name, "policy.made_up", "__import__('vault')", "__import__"),
    (click_in_commands_alone, "vault.made_up", "import click", "imports click"),
    (click_in_commands_alone, "anchor.made_up", "from click import echo", "imports click"),
    (pure_modules, "ledger.tiles", "from sqlalchemy import text", "imports sqlalchemy.text"),
    (pure_modules, "ledger.merkle", "from ledger.log import Log", "stateful ledger.log"),
    (pure_modules, "ledger.note", "from ledger import tables", "stateful ledger.tables"),
    (pure_modules, "ledger.entry", "from . import integrator", "stateful ledger.integrator"),
    (pure_modules, "vault.cipher", "from vault.database import Database", "vault.database"),
    (pure_modules, "vault.keynode", "def f():\n    from vault.keytree import K", "vault.keytree"),
    (pure_modules, "vault.cipher", "import ledger.signer", "stateful ledger.signer"),
    (pure_modules, "policy.period", "from sqlalchemy import Table", "sqlalchemy"),
    (pure_modules, "policy.made_up", "import socket", "imports socket"),
    (pure_modules, "vault.keynode", "import os\nos.remove('x')", "uses os.remove"),
    (pure_modules, "vault.keynode", "from os import remove", "imports os.remove"),
    (pure_modules, "policy.retention", "x = open('list')", "calls open"),
    (pure_modules, "policy.retention", "x = dt.date.today()", "calls dt.date.today"),
    (no_circle, "ledger.errors", "from ledger.signer import Signer", "ledger.signer"),
    (no_circle, "ledger.pointer", "import ledger.fsck", "ledger.fsck"),
    (no_circle, "vault.errors", "from vault import sdk", "vault.sdk"),
    (nothing_that_runs_data, "vault.made_up", "import pickle", "imports pickle"),
    (nothing_that_runs_data, "vault.made_up", "from yaml import load", "imports yaml.load"),
    (nothing_that_runs_data, "policy.made_up", "eval('1')", "calls eval"),
    (nothing_that_runs_data, "cli", "def f(x):\n    exec(x)", "calls exec"),
    (nothing_that_runs_data, "anchor.made_up", "builtins.eval('1')", "calls builtins.eval"),
    (networks_in_their_places, "ledger.made_up", "import http.client", "imports http.client"),
    (networks_in_their_places, "ledger.made_up", "def f():\n    import socket", "imports socket"),
    (networks_in_their_places, "commands.made_up", "from urllib import request", "urllib.request"),
    (known_libraries, "anchor.made_up", "import web3", "imports web3"),
    (known_libraries, "ledger.made_up", "from pymerkle import InmemoryTree", "imports pymerkle"),
    (known_libraries, "vault.made_up", "from Crypto.Cipher import AES", "imports Crypto"),
    (one_source_of_cryptography, "vault.made_up", "import random", "imports random"),
    (one_source_of_cryptography, "ledger.made_up", "from ecdsa import k", "imports ecdsa"),
    (one_source_of_cryptography, "vault.made_up", "from Crypto.Cipher import AES", "Crypto"),
    (one_source_of_cryptography, "anchor.made_up", "hashlib.sha1(b'')", "calls hashlib.sha1"),
    (no_assert, "ledger.made_up", "def f(x):\n    assert x", "asserts"),
    (no_assert, "cli", "assert True", "asserts"),
]


@pytest.mark.parametrize(
    ("rule", "name", "source", "reported"),
    BROKEN,
    ids=[f"{rule.__name__}: {name} {source!r}" for rule, name, source, _ in BROKEN],
)
def test_a_module_that_breaks_the_rule_is_caught(rule, name, source, reported):
    lines = set(rule(MODULES | {name: Module(name, source)})) - set(rule(MODULES))
    assert [line for line in lines if name in line and reported in line]
    # One line in the source, one line in the report; a circle shows wherever it closes.
    assert len(lines) == 1 or rule is no_circle


def test_every_rule_has_a_control():
    controlled = {rule.__name__ for rule, *_ in BROKEN}
    print(f"{len(RULES)} rules, {len(BROKEN)} sources that break them")
    assert controlled == {rule.__name__ for rule in RULES}


@pytest.mark.parametrize(
    ("rule", "name", "source"),
    [
        (no_circle, "ledger.errors", "if TYPE_CHECKING:\n    from ledger.signer import Signer"),
        (no_circle, "ledger.errors", "def f():\n    from ledger.signer import Signer"),
        (arrows, "anchor.made_up", "from ledger.note import Note"),
        (pure_modules, "vault.keynode", "import os\nos.urandom(12)"),
        (one_source_of_cryptography, "vault.made_up", "import hmac, hashlib, nacl, cryptography"),
        (nothing_that_runs_data, "vault.made_up", "connection.exec_driver_sql('SELECT 1')"),
        (networks_in_their_places, "ledger.net.made_up", "import urllib.request, ssl"),
        (known_libraries, "bench.made_up", "from pymerkle import InmemoryTree"),
        (no_assert, "ledger.made_up", '"""Says assert x."""'),
    ],
    ids=str,
)
def test_what_keeps_a_rule_is_not_reported(rule, name, source):
    modules = {key: module for key, module in MODULES.items() if key != name}
    assert set(rule(modules | {name: Module(name, source)})) <= set(rule(modules))


def loaded_by(*names: str) -> set[str]:
    """The modules that a fresh interpreter holds after importing these."""
    program = f"import sys, {', '.join(names)}\nprint(*sys.modules)"
    run = subprocess.run(
        [sys.executable, "-c", program], cwd=REPOSITORY, capture_output=True, text=True, check=True
    )
    return set(run.stdout.split())


def test_the_verifier_runs_where_no_vault_is():
    """P1: importing the offline verifier loads no vault and no policy, also not by detours."""
    loaded = loaded_by("anchor.verify")
    assert "ledger.merkle" in loaded
    assert {name for name in loaded if name.partition(".")[0] in {"vault", "policy"}} == set()


def test_the_pure_modules_load_no_database():
    pure = sorted({name for name in MODULES if is_pure(name)})
    loaded = loaded_by(*pure)
    print(f"{len(pure)} pure modules")
    assert set(pure) <= loaded
    assert {name for name in loaded if name.partition(".")[0] in {"sqlalchemy", "sqlite3"}} == set()
    # Control: a stateful one does.
    assert "sqlalchemy" in loaded_by("ledger.log")
