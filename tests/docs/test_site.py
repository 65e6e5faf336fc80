"""The documentation as a site: it builds strictly, and no link in it leads nowhere."""

import os
import re
import subprocess
import sys
import urllib.parse
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import pytest

from docs.site import for_python_markdown
from tests.support.processes import ROOT


class Page(HTMLParser):
    """Where a page links to, and what can be linked to in it."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.anchors: set[str] = set()
        self.diagrams = 0
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        found = dict(attributes)
        self.anchors |= {value for name in ("id", "name") if (value := found.get(name))}
        target = found.get("href") if tag == "a" else found.get("src")
        self.links += [target] if target else []
        self.diagrams += "mermaid" in (found.get("class") or "").split()


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("site") / "site"
    ended = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", target],
        cwd=ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )
    assert ended.returncode == 0, ended.stderr
    return target


def broken(site: Path) -> Iterator[str]:
    pages = {path: Page(path.read_text()) for path in site.rglob("*.html") if path.name != "404.html"}
    for path, page in pages.items():
        for link in page.links:
            parts = urllib.parse.urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            target = (path.parent / urllib.parse.unquote(parts.path)).resolve() if parts.path else path
            anchors = pages[target].anchors | {""} if target in pages else {parts.fragment}
            if not target.is_file() or parts.fragment not in anchors:
                yield f"{path.relative_to(site)}: {link}"


@pytest.mark.slow
def test_no_link_of_the_site_is_broken(site: Path) -> None:
    assert len(list((site / "docs").glob("*.html"))) > 20
    assert list(broken(site)) == []


@pytest.mark.slow
def test_every_page_and_every_diagram_is_in_the_site(site: Path) -> None:
    pages = {path.name for path in (ROOT / "docs").glob("*.md")}
    assert {path.with_suffix(".md").name for path in (site / "docs").glob("*.html")} >= pages

    diagrams = (ROOT / "docs/architecture.md").read_text().count("```mermaid")
    assert Page((site / "docs/architecture.html").read_text()).diagrams == diagrams > 0


@pytest.mark.slow
def test_a_block_in_a_list_stays_a_block(site: Path) -> None:
    text = re.sub("<[^>]+>", "", (site / "index.html").read_text())

    assert "batch-receiver register --url https://hooks.example.com" in text
    assert "```" not in text


def test_what_github_reads_is_put_into_the_words_of_python_markdown(tmp_path: Path) -> None:
    (tmp_path / "schemas").mkdir()
    page = tmp_path / "page.md"
    text = "1. One.\n\n   ```sh\n   true\n   ```\n\n```js\n  kept\n```\n[all](schemas/) [one](page.md#a)\n"

    assert for_python_markdown(text, page) == (
        "1. One.\n\n    ```sh\n    true\n    ```\n\n```js\n  kept\n```\n[all](schemas/index.md) [one](page.md#a)\n"
    )
