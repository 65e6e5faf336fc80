"""What a process asked of the file system, and when it was durable: a trace of `strace -f -y` read as a story."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Self

CALLS = "openat,rename,renameat,renameat2,link,linkat,fsync,fdatasync,syncfs"


class Story:
    """The system calls of a traced process, by their place in it; paths are relative to the bucket's folder."""

    def __init__(self) -> None:
        self.published: dict[str, int] = {}
        self._staged: dict[str, str] = {}
        self._written: dict[str, int] = {}
        self._synced: list[tuple[int, str]] = []
        self._all_synced: list[int] = []

    @classmethod
    def read(cls, trace: Path, root: Path) -> Self:
        story = cls()
        for at, line in enumerate(_whole_calls(trace)):
            if " = -1 " in line:
                continue
            call, _, arguments = line.partition("(")
            paths = [path.removeprefix(f"{root}/") for path in re.findall(rf"({root}[^\">]*)", arguments)]
            if call == "syncfs" and paths:
                story._all_synced.append(at)
            elif call in {"fsync", "fdatasync"} and paths:
                story._synced.append((at, "." if paths[0] == str(root) else paths[0]))
            elif call == "openat" and "O_CREAT" in arguments and ".staging/" not in arguments:
                story._note_creation(at, arguments, paths)
            elif call.startswith(("rename", "link")) and len(paths) == 2:
                story.published[paths[1]] = at
                story._staged[paths[1]] = paths[0]
        return story

    def _note_creation(self, at: int, arguments: str, paths: list[str]) -> None:
        name = re.findall(r'"([^"]*)"', arguments)[0]
        if paths:
            self._written[name if name.startswith("/") else f"{paths[0]}/{name}"] = at

    def durable_at(self, path: str) -> int:
        """When a file and its entry in its directory are both on the disk, whatever happens then."""
        if path in self._written:
            return next(at for at in self._all_synced if at > self._written[path])
        published = self.published[path]
        if not self.synced_before(published, path):
            return next(at for at in self._all_synced if at > published)
        folders = {str(folder) for folder in Path(path).parents}
        return max(next(at for at, what in self._synced if what == f and at > published) for f in folders)

    def synced_before(self, at: int, path: str) -> bool:
        """Whether the staged file that became `path` was synced before that."""
        return any(when < at and what == self._staged[path] for when, what in self._synced)


def _whole_calls(trace: Path) -> Iterator[str]:
    """Calls at the moment they returned: strace cuts one in two where another thread comes between."""
    unfinished: dict[str, str] = {}
    for line in trace.read_text(errors="replace").splitlines():
        pid, _, rest = line.partition(" ")
        rest = rest.strip()
        if rest.endswith("<unfinished ...>"):
            unfinished[pid] = rest.removesuffix("<unfinished ...>")
            continue
        resumed = re.match(r"<\.\.\. \w+ resumed>(.*)", rest)
        yield unfinished.pop(pid, "") + resumed[1] if resumed else rest
