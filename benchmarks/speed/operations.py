"""Where the time of the compiled network goes, by the kind of its operations: a profile of XLA's own."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_COMPUTATION = re.compile(r"^(?:ENTRY )?%?([\w.\-]+) \(.*\{$")
_INSTRUCTION = re.compile(r"^\s+(?:ROOT )?%?([\w.\-]+) = .*? ([a-z][\w\-]*)\(")
_CONTAINERS = ("while", "conditional", "call")
"""Operations whose time is that of the operations inside, which have rows of their own."""


@dataclass(frozen=True)
class Instruction:
    """One operation of a compiled program.

    Attributes:
      opcode: XLA's name of what it does; `fusion` for several in one pass.
      inner: the names of those several.
      layer: whether it belongs to a layer of the transformer.
      is_8_bit: whether it multiplies 8-bit integers.
    """

    opcode: str
    inner: frozenset[str]
    layer: bool
    is_8_bit: bool

    @property
    def kind(self) -> str:
        """Its row."""
        what = self.inner | {self.opcode}
        if what & {"dot", "convolution"}:
            operation = "products of 8-bit integers" if self.is_8_bit else "other products"
        elif "reduce" in what:
            operation = "reductions"
        else:
            operation = "elementwise operations"
        return f"{'transformer layers' if self.layer else 'the rest'}: {operation}"


def parse(program: str) -> dict[str, Instruction]:
    """The operations of a compiled program (`jax.stages.Compiled.as_text`) by name, without the containers."""
    inside: dict[str, set[str]] = {}
    lines: list[tuple[str, str, str]] = []
    computation = ""
    for line in program.splitlines():
        if header := _COMPUTATION.match(line):
            computation = header[1]
        elif found := _INSTRUCTION.match(line):
            name, opcode = found.groups()
            inside.setdefault(computation, set()).add(opcode)
            lines.append((name, opcode, line))
    instructions = {}
    for name, opcode, line in lines:
        if opcode in _CONTAINERS:
            continue
        called = re.search(r"(?:calls|to_apply)=%?([\w.\-]+)", line)
        inner = frozenset(inside.get(called[1], ())) if called and opcode == "fusion" else frozenset()
        result = line.split("=", 1)[1].lstrip()
        instructions[name] = Instruction(opcode, inner, "run_layer" in line, result.startswith("s32["))
    return instructions


def profile(run: Callable[[], Any], program: str, rounds: int) -> list[dict[str, Any]]:
    """Seconds and operations of a call by kind, the longest first; `run` calls the program and waits for it."""
    import jax

    instructions = parse(program)
    options = jax.profiler.ProfileOptions()
    options.python_tracer_level = 0
    options.host_tracer_level = 3  # each operation of a program
    with tempfile.TemporaryDirectory() as folder:
        with jax.profiler.trace(folder, profiler_options=options):
            for _ in range(rounds):
                run()
        (file,) = Path(folder).rglob("*.xplane.pb")
        data = jax.profiler.ProfileData.from_file(str(file))
        totals: dict[str, list[float]] = {}
        for plane in data.planes:
            for line in plane.lines:
                for event in line.events:
                    if instruction := instructions.get(event.name):
                        total = totals.setdefault(instruction.kind, [0.0, 0.0])
                        total[0] += event.duration_ns * 1e-9 / rounds
                        total[1] += 1 / rounds
    if not totals:
        raise RuntimeError("the profile names no operation of the program")
    by_time = sorted(totals.items(), key=lambda item: -item[1][0])
    return [{"kind": kind, "seconds": seconds, "count": round(count)} for kind, (seconds, count) in by_time]
