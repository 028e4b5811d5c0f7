"""One results file: a machine with one version of JAX, and what each run of the benchmark measured on it.

A run replaces only what it measured. Everything else keeps its values and the date, commit and packages of its own run.
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

# Sections whose rows are replaced one contender at a time, since `--peers` measures some of them.
ROW_NAMES = {"comparisons": "peer", "alone": "contender"}


class MergeError(Exception):
    """A results file is of another machine, network or version of JAX; the message states which."""


@dataclass(frozen=True)
class Machine:
    """What is measured, by the names of `describe_machine`; `devices` are JAX's."""

    cpu: str
    cpu_family_model: tuple[str | None, ...]
    cpu_flags: tuple[str, ...]
    cores: int
    memory_bytes: int | None
    devices: Mapping[str, Any]

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Read the machine's values; others, such as those of a run, are ignored."""
        return cls(**{name: _tuples(values[name]) for name in _names(cls)})

    @property
    def kind(self) -> str:
        """The GPU's name, or the generation of the CPU: see `cpu_kind`."""
        if self.devices["platform"] == "gpu":
            return self.devices["kind"]
        return cpu_kind(self.cpu, self.cpu_family_model)


def cpu_kind(cpu: str, family_model: Sequence[str | None]) -> str:
    """The generation of a CPU, such as `Zen 5`, where its family and model are known; otherwise its name."""
    family, model = (int(number or 0) for number in family_model)
    if "AMD" in cpu and family in (25, 26):
        return "Zen 5" if family == 26 else "Zen 3" if model < 0x10 or 0x20 <= model < 0x60 else "Zen 4"
    if "Intel" in cpu and family == 6:
        return _INTEL.get(model, cpu)
    return cpu


def machine_name(kind: str, cores: int) -> str:
    """A machine in the name of a file, such as `zen5-2-cores`."""
    slug = re.sub(r"[^a-z0-9]+", "-", re.sub(r" (?=\d)", "", kind.lower())).strip("-")
    return f"{slug}-{cores}-cores"


_INTEL = {
    0x55: "Skylake or Cascade Lake",
    0x6A: "Ice Lake",
    0x8F: "Sapphire Rapids",
    0xCF: "Emerald Rapids",
    0xAD: "Granite Rapids",
}


@dataclass(frozen=True)
class Run:
    """When and with what one run of the benchmark measured some parts.

    Attributes:
      parts: a section, or `section/contender` where each contender's rows are replaced alone.
    """

    date: str
    commit: str | None
    uncommitted_changes: bool
    load_average_at_start: tuple[float, ...] | None
    system: str
    python: str
    packages: Mapping[str, str | None]
    parts: tuple[str, ...] = ()

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Read the run's values; others, such as those of the machine, are ignored."""
        return cls(**{name: _tuples(values[name]) for name in _names(cls) if name in values})


@dataclass(frozen=True)
class Results:
    """What was measured with one network on one machine.

    Attributes:
      flops: operations of one clip, by the network and by its encoder.
      runs: the oldest first. Each part is in one run.
      sections: what each section measured, plain values; `{"error": reason}` for one that failed.
    """

    network: str
    machine: Machine
    flops: Mapping[str, int]
    runs: tuple[Run, ...] = ()
    sections: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def read(cls, path: Path) -> Self:
        values = json.loads(path.read_text(encoding="utf-8"))
        machine, runs = Machine.from_dict(values["machine"]), tuple(map(Run.from_dict, values["runs"]))
        return cls(values["network"], machine, values["flops"], runs, values["sections"])

    def write(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(dataclasses.asdict(self), indent=1) + "\n", encoding="utf-8")

    @property
    def jax(self) -> str:
        """The version of JAX, the same in every run."""
        return self.runs[-1].packages["jax"] or "missing"

    def at(self, path: Path) -> Results:
        """Read what the file at `path` has, to add to; nothing measured where there is none.

        Raises:
          MergeError: the file is of another machine, network, JAX or jaxlib.
        """
        if not path.exists():
            return dataclasses.replace(self, runs=())
        earlier = Results.read(path)
        mine, others = (
            {
                "network": results.network,
                **dataclasses.asdict(dataclasses.replace(results.machine, memory_bytes=None)),
                **{name: results.runs[-1].packages[name] for name in ("jax", "jaxlib")},
            }
            for results in (earlier, self)
        )
        different = [name for name in mine if mine[name] != others[name]]
        if different:
            reason = ", ".join(f"{name} {mine[name]} instead of {others[name]}" for name in different)
            raise MergeError(f"{path} has results with {reason}: name another file with --output")
        return dataclasses.replace(earlier, flops=self.flops)

    def with_section(self, name: str, value: Any, run: Run) -> Results:
        """These results with a section, or its rows of some contenders, replaced by what `run` measured."""
        rows, key = self.sections.get(name), ROW_NAMES.get(name)
        parts = {name}
        if key and isinstance(value, list):
            parts = {f"{name}/{row[key]}" for row in value}
            kept = [row for row in rows if f"{name}/{row[key]}" not in parts] if isinstance(rows, list) else []
            value = [*kept, *value]
            replaced = parts | {name}
        else:
            replaced = {part for earlier in self.runs for part in earlier.parts if part.split("/")[0] == name}
        earlier = [dataclasses.replace(r, parts=tuple(p for p in r.parts if p not in replaced)) for r in self.runs]
        latest = earlier.pop() if earlier and earlier[-1].date == run.date else run
        latest = dataclasses.replace(latest, parts=(*latest.parts, *sorted(parts)))
        runs = (*(r for r in earlier if r.parts), latest)
        sections = {**self.sections, name: value}
        return dataclasses.replace(self, sections=sections, runs=runs)


def file_name(machine: Machine, jax: str) -> str:
    """The name of a machine's results, such as `zen5-2-cores-jax-0.12`."""
    return f"{machine_name(machine.kind, machine.cores)}-jax-{'.'.join(jax.split('.')[:2])}"


def _names(kind: type[Machine] | type[Run]) -> list[str]:
    return [entry.name for entry in dataclasses.fields(kind)]


def _tuples(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value
