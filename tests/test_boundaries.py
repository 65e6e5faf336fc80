"""The rooms: what each package may import, read from the source of every module and seen in real processes."""

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
ROOMS = ("receiver", "workers", "console", "emulator", "bench", "docs", "tests")
CONTRACT = "workers.contract"


def modules(room: str) -> list[Path]:
    return sorted(path for path in (ROOT / room).rglob("*.py") if "__pycache__" not in path.parts)


def imports(path: Path) -> set[str]:
    """Every module that a file imports, wherever in it; `from a import b` gives `a` and `a.b`."""
    package = [*path.relative_to(ROOT).with_suffix("").parts[:-1]]
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(), filename=str(path))):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            found.add(module)
            found.update(f"{module}.{alias.name}" for alias in node.names)
    return found


def foreign(path: Path, room: str) -> set[str]:
    """What a module imports of other rooms."""
    return {name for name in imports(path) if name.split(".")[0] in ROOMS and name.split(".")[0] != room}


def loaded_by(module: str) -> set[str]:
    """The modules that a fresh process holds after importing one."""
    code = f"import json, sys, {module}; print(json.dumps(sorted(sys.modules)))"
    ended = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    return set(json.loads(ended.stdout))


def within(names: set[str], *packages: str) -> set[str]:
    return {name for name in names if name.split(".")[0] in packages}


def test_there_are_modules_to_look_at() -> None:
    for room in ("receiver", "workers", "emulator"):
        assert len(modules(room)) > 5


@pytest.mark.parametrize("path", modules("receiver"), ids=lambda path: str(path.relative_to(ROOT)))
def test_the_receiver_imports_nothing_of_other_rooms_but_the_contract(path: Path) -> None:
    allowed = {name for name in foreign(path, "receiver") if name == "workers" or name.startswith(CONTRACT)}

    assert foreign(path, "receiver") == allowed


@pytest.mark.parametrize("path", modules("workers"), ids=lambda path: str(path.relative_to(ROOT)))
def test_workers_import_nothing_of_other_rooms(path: Path) -> None:
    assert foreign(path, "workers") == set()


@pytest.mark.parametrize("path", modules("emulator"), ids=lambda path: str(path.relative_to(ROOT)))
def test_the_emulator_imports_nothing_of_other_rooms(path: Path) -> None:
    assert foreign(path, "emulator") == set()


@pytest.mark.parametrize("room", ["receiver", "workers", "console"])
def test_nothing_that_is_deployed_imports_the_emulator_or_tests(room: str) -> None:
    for path in modules(room):
        assert not within(imports(path), "emulator", "tests", "bench", "docs"), path


def test_the_contract_is_a_leaf() -> None:
    for path in modules("workers/contract"):
        assert all(name.startswith(CONTRACT) for name in within(imports(path), *ROOMS)), path
        assert within(imports(path), "obstore", "httpx", "msgspec", "click") == set(), path
    loaded = loaded_by("workers.contract.environment")
    assert within(loaded, "obstore", "httpx", "msgspec", "click", "receiver") == set()


def test_the_public_edge_loads_no_bucket_and_no_http_client() -> None:
    loaded = loaded_by("receiver.app")

    assert within(loaded, "obstore", "httpx", "pyarrow", "emulator", "tests") == set()
    assert {name for name in within(loaded, "workers") if not name.startswith(CONTRACT)} == {"workers"}


@pytest.mark.parametrize("module", ["receiver.cli", "receiver.app_cli"])
def test_the_command_line_loads_a_room_only_when_it_is_used(module: str) -> None:
    loaded = loaded_by(module)

    assert within(loaded, "obstore", "httpx", "emulator") == set()
    assert {name for name in within(loaded, "workers") if not name.startswith(CONTRACT)} <= {"workers"}


def test_workers_load_nothing_that_knows_a_signing_secret() -> None:
    loaded = loaded_by("workers.worker")

    assert within(loaded, "receiver", "emulator", "starlette", "uvicorn") == set()


def test_a_folder_bucket_loads_no_object_store_client() -> None:
    assert within(loaded_by("workers.bucket.folder"), "obstore") == set()


def test_only_one_module_holds_the_api_key() -> None:
    asking = [path.name for path in modules("workers") if ".reveal()" in path.read_text()]

    assert asking == ["client.py"]


def test_nothing_reads_or_writes_a_pickle() -> None:
    for room in ("receiver", "workers", "emulator"):
        for path in modules(room):
            assert not within(imports(path), "pickle", "shelve", "marshal", "cloudpickle"), path
