"""The rooms: what each package may import, read from the source of every module and seen in real processes.

Every import counts, wherever it stands: at the top, inside a function (it loads later, but it knows as much), under
`TYPE_CHECKING` (it loads never, and knows as much too). What is named in a string, as `receiver.cli` names the commands
and RQ its functions, does not: that is how a room hands over to one that it must not know.
"""

import ast
import graphlib
import json
import subprocess
import sys
import tomllib
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).resolve().parents[1]
MOST_LINES = 350
MOST_MODULES = 12


class Row(NamedTuple):
    """What a room may import of the other rooms, a name standing for all below it; and libraries that it must not."""

    may: str
    must_not: str


ALL = "receiver workers sender console emulator bench docs tests"
SHIPPED = ("receiver", "workers", "sender", "console", "emulator")
LEAVES = (
    "workers.errors workers.gemini workers.bucket workers.results workers.outside workers.command_line"
    " workers.prices"
)
CONTRACT = "workers.contract"
OF_VERIFY = (
    "workers.errors workers.bucket workers.results workers.summary workers.settings workers.command_line"
    " workers.contract"
)

STORE, HTTP, QUEUE = "obstore pyarrow", "httpx google", "redis rq"
SERVER, SIGNED, TERMINAL = "starlette uvicorn httptools", "cryptography jwt", "click rich"
IO = "os io pathlib socket tempfile subprocess"

# A module belongs to the longest name here that begins its own. What is not here can't be imported by anybody.
ROOMS = {
    "receiver": Row(f"receiver.jwks {CONTRACT}", f"{STORE} {HTTP} rich"),
    "receiver.jwks": Row("receiver", f"{STORE} {QUEUE}"),
    "receiver.registration": Row(f"receiver workers.gemini {CONTRACT}", f"{STORE} {QUEUE} {SERVER}"),
    "workers": Row(f"{LEAVES} {CONTRACT}", f"{HTTP} {SERVER} {SIGNED} obstore"),
    "workers.contract": Row(
        "workers.contract.history workers.contract.setting", f"{STORE} {HTTP} {SERVER} {TERMINAL} msgspec"
    ),
    "workers.contract.setting": Row(CONTRACT, f"{STORE} {HTTP} {SERVER} {TERMINAL} msgspec"),
    "workers.contract.history": Row(CONTRACT, f"{STORE} {HTTP} {SERVER} {TERMINAL} msgspec"),
    "workers.errors": Row("", f"{STORE} {HTTP} {QUEUE} {SERVER} {TERMINAL} {IO}"),
    "workers.command_line": Row(f"workers.errors {CONTRACT}", f"{STORE} {HTTP} {QUEUE} {SERVER} rich"),
    "workers.prices": Row("", f"{STORE} {HTTP} {QUEUE} {SERVER} {TERMINAL} {IO}"),
    "workers.gemini": Row("workers.errors", f"{STORE} {QUEUE} {SERVER} {TERMINAL} google"),
    "workers.bucket": Row("workers.errors", f"{HTTP} {QUEUE} {SERVER} {TERMINAL} pyarrow"),
    "workers.results": Row("workers.errors", f"{STORE} {HTTP} {QUEUE} {SERVER} {TERMINAL} {IO}"),
    "workers.outside": Row("workers.errors", f"{STORE} {QUEUE} {SERVER} {TERMINAL} google"),
    "workers.verify": Row(OF_VERIFY, f"{HTTP} {QUEUE} {SERVER} obstore"),
    "sender": Row(f"{LEAVES} {CONTRACT}", f"{QUEUE} {SERVER}"),
    "console": Row(f"console.doctor {LEAVES} {CONTRACT}", "rich"),
    "console.doctor": Row(f"console {LEAVES} {CONTRACT}", f"{SERVER} rich"),
    "emulator": Row("", f"{STORE} {QUEUE} google"),
    "emulator.demo": Row("", f"{STORE} {SERVER}"),
    "bench": Row(ALL, ""),
    "docs": Row(ALL, ""),
    "tests": Row(ALL, ""),
}
PACKAGES = [name for name in ALL.split() if any((ROOT / name).rglob("*.py"))]
"""Those of the rooms that are built."""


def files(*packages: str) -> list[Path]:
    return [
        path
        for package in packages
        for path in sorted((ROOT / package.replace(".", "/")).rglob("*.py"))
        if "__pycache__" not in path.parts
    ]


def name_of(path: Path) -> str:
    """As it is imported; a package's `__init__` is the package."""
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def is_below(module: str, *packages: str) -> bool:
    return any(module == package or module.startswith(f"{package}.") for package in packages)


MODULES = {name_of(path): path for path in files(*PACKAGES)}
OF_THE_PRODUCT = [module for module in MODULES if not is_below(module, "tests")]
SUB_PACKAGES = [
    module for module in OF_THE_PRODUCT if MODULES[module].name == "__init__.py" and "." in module
]


def room_of(module: str) -> str:
    return max((room for room in ROOMS if is_below(module, room)), key=len)


@cache
def imports(module: str) -> frozenset[str]:
    """Every module that one imports; for `from a import b`, `a.b` where that is one of our modules, else `a`."""
    path = MODULES[module]
    package = [*path.relative_to(ROOT).parts[:-1]]
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(), filename=str(path))):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            origin = ".".join([*base, *([node.module] if node.module else [])])
            names = (f"{origin}.{alias.name}" for alias in node.names)
            found.update(name if name in MODULES else origin for name in names)
    return frozenset(found)


def ours(module: str) -> set[str]:
    """What a module imports of ours; also names that are none of our modules, or not any more."""
    return {name for name in imports(module) if is_below(name, *PACKAGES)}


def loaded_by(module: str) -> set[str]:
    """The modules that a fresh process holds after importing one."""
    code = f"import json, sys, {module}; print(json.dumps(sorted(sys.modules)))"
    ended = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    return set(json.loads(ended.stdout))


def within(names: set[str], *packages: str) -> set[str]:
    return {name for name in names if is_below(name, *packages)}


def test_there_are_modules_to_look_at() -> None:
    for room in ("receiver", "workers", "emulator"):
        assert len(files(room)) > 5
    assert set(SUB_PACKAGES) >= {"workers.gemini", "workers.bucket", "workers.results", "workers.verify"}


def test_every_package_that_is_shipped_has_its_row() -> None:
    told = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]

    assert set(told["wheel"]["packages"]) == set(PACKAGES) & set(SHIPPED)
    assert set(SUB_PACKAGES) <= set(ROOMS)


@pytest.mark.parametrize("module", MODULES)
def test_a_module_imports_only_what_its_room_may(module: str) -> None:
    room = room_of(module)
    foreign = {name for name in ours(module) if room_of(name) != room}

    assert foreign - within(foreign, *ROOMS[room].may.split()) == set()
    assert within(set(imports(module)), *ROOMS[room].must_not.split()) == set()


def test_no_import_comes_back_to_where_it_began() -> None:
    graph = {module: ours(module) & MODULES.keys() - {module} for module in MODULES}

    assert list(graphlib.TopologicalSorter(graph).static_order())


@pytest.mark.parametrize("module", OF_THE_PRODUCT)
def test_a_module_is_read_in_one_sitting(module: str) -> None:
    assert len(MODULES[module].read_text().splitlines()) <= MOST_LINES


@pytest.mark.parametrize("package", SUB_PACKAGES)
def test_a_sub_package_is_small_and_says_what_it_knows(package: str) -> None:
    path = MODULES[package]
    title, _, paragraph = (ast.get_docstring(ast.parse(path.read_text())) or "").partition("\n\n")

    assert len([each for each in path.parent.glob("*.py") if each != path]) <= MOST_MODULES
    assert title
    assert paragraph


def test_the_public_edge_loads_no_bucket_and_no_http_client() -> None:
    loaded = loaded_by("receiver.app")

    assert within(loaded, "obstore", "httpx", "pyarrow", "emulator", "tests") == set()
    assert within(loaded, "workers") - within(loaded, CONTRACT) == {"workers"}


@pytest.mark.parametrize("module", ["receiver.cli", "receiver.app_cli"])
def test_the_command_line_loads_a_room_only_when_it_is_used(module: str) -> None:
    loaded = loaded_by(module)

    assert within(loaded, "obstore", "httpx", "emulator") == set()
    assert within(loaded, "workers") - within(loaded, CONTRACT) <= {"workers"}


def test_workers_load_nothing_that_knows_a_signing_secret() -> None:
    loaded = loaded_by("workers.worker")

    assert within(loaded, "receiver", "emulator", "starlette", "uvicorn") == set()


def test_a_folder_bucket_loads_no_object_store_client() -> None:
    assert within(loaded_by("workers.bucket.folder"), "obstore") == set()


def test_only_one_module_holds_the_api_key() -> None:
    asking = [path.name for path in files("workers") if ".reveal()" in path.read_text()]

    assert asking == ["http.py"]


@pytest.mark.parametrize("module", OF_THE_PRODUCT)
def test_nothing_reads_or_writes_a_pickle(module: str) -> None:
    assert within(set(imports(module)), "pickle", "shelve", "marshal", "cloudpickle") == set()
