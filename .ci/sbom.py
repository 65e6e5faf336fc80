"""Prints what is installed beside this Python as a CycloneDX document, without pip: the same for the same packages."""

import json
import sys
from importlib import metadata


def component(package: metadata.Distribution) -> dict[str, object]:
    """One package."""
    name, told = package.metadata["Name"], package.metadata
    licence = told.get("License-Expression") or told.get("License") or ""
    found: dict[str, object] = {
        "type": "application" if name == "batch-receiver" else "library",
        "name": name,
        "version": package.version,
        "purl": f"pkg:pypi/{name.lower().replace('_', '-')}@{package.version}",
    }
    if licence and "\n" not in licence:
        found["licenses"] = [{"license": {"name": licence}}]
    return found


components = sorted(
    (
        component(each)
        for each in metadata.distributions()
        if each.metadata["Name"] not in {"pip", "setuptools"}
    ),
    key=lambda each: str(each["name"]).lower(),
)
json.dump(
    {"bomFormat": "CycloneDX", "specVersion": "1.5", "version": 1, "components": components},
    sys.stdout,
    indent=1,
)
