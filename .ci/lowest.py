"""Print the lowest versions that pyproject.toml admits, a line each as pip takes them: `lowest.py [EXTRA]...`."""

from __future__ import annotations

import sys
import tomllib
from pathlib import Path

from packaging.requirements import Requirement

project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())["project"]
extras = project["optional-dependencies"]
wanted = [*project["dependencies"], *(line for extra in sys.argv[1:] for line in extras[extra])]

bounds = {}
for requirement in map(Requirement, [*wanted, *(line for extra in extras.values() for line in extra)]):
    lowest = [bound.version for bound in requirement.specifier if bound.operator in (">=", "==", "~=")]
    if lowest:
        bounds.setdefault(requirement.name, lowest[0])
    elif requirement.name not in bounds:
        sys.exit(f"pyproject.toml: {requirement} has no lower bound")
names = dict.fromkeys(Requirement(line).name for line in wanted)
sys.stdout.writelines(f"{name}=={bounds[name]}\n" for name in names)
