"""The command line; at its end it prints how many times the network was traced."""

from __future__ import annotations

from typing import Any

from spectra_jax.cli import main
from spectra_jax.model.spectra import SpectraAASIST3


def run() -> None:
    traces = 0
    call = SpectraAASIST3.__call__

    def traced(self: SpectraAASIST3, *arguments: Any, **options: Any) -> Any:
        nonlocal traces
        traces += 1
        return call(self, *arguments, **options)

    SpectraAASIST3.__call__ = traced  # type: ignore[method-assign]
    try:
        main()
    finally:
        print(traces)


if __name__ == "__main__":
    run()
