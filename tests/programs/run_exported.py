"""Run exported programs where this package and Flax cannot be imported; save their outputs.

Arguments: the directory, which has `windows.npz` (name of a program's file -> windows, under `NAME/KEY`). The outputs
are written to `outputs.npz` under the same keys.
"""

from __future__ import annotations

import importlib.abc
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any


class Blocker(importlib.abc.MetaPathFinder):
    """Refuses to import the package and what it is written with."""

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> Any:
        if name.split(".")[0] in ("spectra_jax", "flax"):
            raise ImportError(f"{name} is blocked")
        return None


def main() -> None:
    sys.meta_path.insert(0, Blocker())
    try:
        import spectra_jax  # noqa: F401
    except ImportError:
        pass
    else:
        raise AssertionError("the package is not blocked")
    import jax
    import numpy as np

    directory = Path(sys.argv[1])
    outputs = {}
    with np.load(directory / "windows.npz") as windows:
        for key in windows.files:
            exported = jax.export.deserialize(bytearray((directory / key.split("/")[0]).read_bytes()))
            outputs[key] = np.asarray(jax.jit(exported.call)(windows[key]))
    np.savez(directory / "outputs.npz", **outputs)  # type: ignore[arg-type]


if __name__ == "__main__":
    main()
