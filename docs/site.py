"""The documentation as a site: mkdocs is given the very files that GitHub shows, in the places that they have.

`mkdocs.yml` names this module as a hook. Pages are staged beside the site, where the README can stand beside `docs/`;
what GitHub understands and Python-Markdown does not is put into its words on the way.
"""

import re
import shutil
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
_PAGES = ("README.md", "SECURITY.md", "CONTRIBUTING.md", "CHANGELOG.md", "LICENSE")
_FOLDERS = ("docs", "deploy")
_LINK = re.compile(r"(\]\()([^)#:\s]+)(#[^)]*)?\)")
_FENCE = re.compile(r"^ *```")


def on_config(config: Any) -> Any:
    """Stage the pages, and have mkdocs read those."""
    site = Path(config["site_dir"])
    staged = site.with_name(f"{site.name}-source")
    stage(staged)
    config["docs_dir"] = str(staged)
    return config


def stage(target: Path) -> None:
    """Copy what the documentation consists of, with a page for each folder that has none."""
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    for name in _PAGES:
        shutil.copyfile(ROOT / name, target / name)
    for folder in _FOLDERS:
        shutil.copytree(ROOT / folder, target / folder, ignore=shutil.ignore_patterns("__pycache__", ".*"))
    for each in [path for path in target.rglob("*") if path.is_dir()]:
        if not any((each / name).exists() for name in ("README.md", "index.md")):
            names = sorted(f"{path.name}/" if path.is_dir() else path.name for path in each.iterdir())
            title = f"# {each.relative_to(target)}/\n\n"
            (each / "index.md").write_text(title + "".join(f"- [{name}]({name})\n" for name in names))
    for page in target.rglob("*.md"):
        page.write_text(for_python_markdown(page.read_text(), page))


def for_python_markdown(text: str, page: Path) -> str:
    """Folders as their pages, and what stands in a list by four blanks."""
    lines, fenced = [], False
    for line in text.splitlines():
        if _FENCE.match(line) and not line.startswith(" "):
            fenced = not fenced
        lines.append(line if fenced else re.sub(r"^ {2,3}(?! {0,1}[-|] )(?=\S| {4})", "    ", line))
    return _LINK.sub(lambda found: _to_a_page(found, page.parent), "\n".join(lines)) + "\n"


def _to_a_page(found: re.Match[str], folder: Path) -> str:
    start, target, anchor = found.groups(default="")
    if not (folder / target).is_dir():
        return found[0]
    name = "README.md" if (folder / target / "README.md").exists() else "index.md"
    return f"{start}{target.rstrip('/')}/{name}{anchor})"
