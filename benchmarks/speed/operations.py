"""Where the time of the compiled network goes, by the kind of its operations: a profile of XLA's own."""

from __future__ import annotations

import re
import tempfile
from collections import Counter, defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

_COMPUTATION = re.compile(r"^(?:ENTRY )?%?([\w.\-]+) \(.*\{$")
_INSTRUCTION = re.compile(r"^\s+(?:ROOT )?%?([\w.\-]+) = (.*? ([a-z][\w\-]*)\(.*)")
_FUSED = re.compile(r"calls=%?([\w.\-]+)")
_CONTAINERS = ("while", "conditional", "call")
"""Operations whose time is that of the operations inside, which have rows of their own."""


def kinds(program: str) -> dict[str, str]:
    """The kind of each operation of a compiled program (`jax.stages.Compiled.as_text`), by its name."""
    # Of each computation: a fusion does what the one that it calls does.
    opcodes: defaultdict[str, set[str]] = defaultdict(set)
    found: list[tuple[str, str, str]] = []
    computation = ""
    for line in program.splitlines():
        if header := _COMPUTATION.match(line):
            computation = header[1]
        elif instruction := _INSTRUCTION.match(line):
            name, text, opcode = instruction.groups()
            opcodes[computation].add(opcode)
            if opcode not in _CONTAINERS:
                found.append((name, text, opcode))
    kind_of = {}
    for name, text, opcode in found:
        fused = _FUSED.search(text) if opcode == "fusion" else None
        kind_of[name] = _kind(text, opcodes[fused[1]] if fused else {opcode})
    return kind_of


def _kind(text: str, opcodes: set[str]) -> str:
    """The row of an operation, from its text in the program and what it does."""
    if opcodes & {"dot", "convolution"}:
        # Their sums are 32-bit integers.
        operation = "products of 8-bit integers" if text.startswith("s32[") else "other products"
    elif "reduce" in opcodes:
        operation = "reductions"
    else:
        operation = "elementwise operations"
    return f"{'transformer layers' if 'run_layer' in text else 'the rest'}: {operation}"


def profile(run: Callable[[], Any], program: str, rounds: int) -> list[dict[str, Any]]:
    """Seconds and operations of a call by kind, the longest first; `run` calls the program and waits for it."""
    import jax

    kind_of = kinds(program)
    options = jax.profiler.ProfileOptions()
    options.python_tracer_level = 0
    options.host_tracer_level = 3  # each operation of a program
    nanoseconds: Counter[str] = Counter()
    counts: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as folder:
        with jax.profiler.trace(folder, profiler_options=options):
            for _ in range(rounds):
                run()
        (file,) = Path(folder).rglob("*.xplane.pb")
        data = jax.profiler.ProfileData.from_file(str(file))
        for plane in data.planes:
            for line in plane.lines:
                for event in line.events:
                    if kind := kind_of.get(event.name):
                        nanoseconds[kind] += event.duration_ns
                        counts[kind] += 1
    if not counts:
        raise RuntimeError("the profile names no operation of the program")
    return [
        {"kind": kind, "seconds": time * 1e-9 / rounds, "count": round(counts[kind] / rounds)}
        for kind, time in nanoseconds.most_common()
    ]
