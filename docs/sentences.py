"""Every sentence that the product says to an operator where something is wrong, read from its source.

It is the first text given to an error, to `fail`, or to the doctor's `failed` and `warning`; what a setting's value
must be; or a whole sentence that is yielded or kept for later. What is filled in is `…`. What is said about one's own
words on the command line (`BadParameter`, `UsageError`) comes with their help, and reports of commands are no trouble.
"""

import ast
import re
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
ROOMS = ("receiver", "workers", "sender", "console")
_SAYING = {"fail", "failed", "warning", "Kind", "append", "__init__"}
_WHOLE = re.compile(r".* .*[.…]", re.DOTALL)
_FIELD = re.compile(r"\{\w+\}")
_CLASS = re.compile(r"^class (\w+)\(([\w., ]+)", re.MULTILINE)
_ROOTS = {
    "Exception",
    "ValueError",
    "PermissionError",
    "FileNotFoundError",
    "ClickException",
    "RedisTimeoutError",
}
_OWN_WORDS = {"BadParameter", "UsageError"}


class Sentence(NamedTuple):
    text: str
    file: str
    line: int


def sentences(root: Path = ROOT) -> list[Sentence]:
    """All of them, in the order of the files."""
    sources = {path: path.read_text() for room in ROOMS for path in sorted((root / room).rglob("*.py"))}
    saying = _SAYING | _errors(sources.values())
    return [
        Sentence(_FIELD.sub("…", text), str(path.relative_to(root)), getattr(node, "lineno", 0))
        for path, source in sources.items()
        for node in ast.walk(ast.parse(source))
        for text in _said(node, saying, is_command=path.stem.endswith("cli"))
        if " " in text and len(re.findall("[a-z]{2,}", text)) > 1
    ]


def _said(node: ast.AST, saying: set[str], *, is_command: bool) -> list[str]:
    if isinstance(node, ast.Call) and node.args and _name(node.func) in saying:
        whole = _name(node.func) == "append"
        return [text for text in _texts(node.args[0]) if not whole or _WHOLE.fullmatch(text)]
    if isinstance(node, ast.Yield) and node.value and not is_command:
        return [text for text in _texts(node.value) if _WHOLE.fullmatch(text)]
    if isinstance(node, ast.Assign) and _name(node.targets[0]).isupper():
        return [text for text in _texts(node.value) if _WHOLE.fullmatch(text)]
    return []


def _errors(sources: Iterable[str]) -> set[str]:
    """Names of all classes of errors."""
    bases = {
        name: {base.strip().rpartition(".")[2] for base in listed.split(",")}
        for text in sources
        for name, listed in _CLASS.findall(text)
    }
    found = set(_ROOTS)
    while more := {name for name, of in bases.items() if of & found} - found:
        found |= more
    return found - {"Exception", "ValueError"}


def _name(function: ast.expr) -> str:
    return function.id if isinstance(function, ast.Name) else getattr(function, "attr", "")


def _texts(node: ast.expr) -> list[str]:
    """What an expression may say."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return [node.value]
    if isinstance(node, ast.JoinedStr):
        return ["".join(str(part.value) if isinstance(part, ast.Constant) else "…" for part in node.values)]
    if isinstance(node, ast.IfExp):
        return _texts(node.body) + _texts(node.orelse)
    return []


if __name__ == "__main__":
    for each in sentences():
        print(f"{each.file}:{each.line}: {each.text}")
