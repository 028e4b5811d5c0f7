"""What a compiled program computes, from the text of its optimised HLO."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import prod

_INSTRUCTION = re.compile(r"\s*(?:ROOT )?%?([\w.\-]+) = (?:\()?(\w+)\[([\d,]*)\](?:\{([\d,]*)\S*)?.*? ([\w\-]+)\((.*)")
_COMPUTATION = re.compile(r"(?P<entry>ENTRY )?%?(?P<name>[\w.\-]+) \(.*\) -> .* \{$")
_PRODUCT_CALL = re.compile(r"gemm|matmul|conv(?!ert)", re.IGNORECASE)


@dataclass(frozen=True)
class Instruction:
    """An instruction.

    Attributes:
      name, dtype, shape: of its result, or of the first of several.
      layout: the axes from minor to major, as text.
      opcode: such as `dot`.
      operands: names of instructions of the same computation.
      line: all of its text.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    layout: str
    opcode: str
    operands: Sequence[str]
    line: str

    @property
    def target(self) -> str:
        """Of a custom call; otherwise empty."""
        found = re.search(r'custom_call_target="([^"]+)"', self.line)
        return found[1] if found else ""

    @property
    def called(self) -> str:
        """The computation of a fusion or a call; otherwise empty."""
        found = re.search(r"(?:calls|to_apply)=%?([\w.\-]+)", self.line)
        return found[1] if found and self.opcode in ("fusion", "call") else ""


@dataclass(frozen=True)
class Program:
    """The instructions of each computation, by its name, and the name of the first one that runs."""

    computations: dict[str, dict[str, Instruction]]
    entry: str

    @classmethod
    def parse(cls, text: str) -> Program:
        computations: dict[str, dict[str, Instruction]] = {}
        entry, present = "", ""
        for line in text.splitlines():
            if start := _COMPUTATION.match(line):
                present = start["name"]
                computations[present] = {}
                entry = present if start["entry"] else entry
            elif (found := _INSTRUCTION.match(line)) and present:
                name, dtype, sizes, layout, opcode, rest = found.groups()
                shape = tuple(map(int, filter(None, sizes.split(","))))
                operands = re.findall(r"%([\w.\-]+)", rest.split("), ")[0])
                computations[present][name] = Instruction(name, dtype, shape, layout or "", opcode, operands, line)
        return cls(computations, entry)

    def targets(self) -> set[str]:
        """Of all custom calls."""
        return {instruction.target for instruction in self._all() if instruction.target}

    def products(self) -> Iterator[tuple[set[str], Instruction]]:
        """Each matrix product and convolution, and the dtypes of its two operands."""
        for computation in self.computations.values():
            for instruction in computation.values():
                if instruction.opcode in ("dot", "convolution") or _PRODUCT_CALL.search(instruction.target):
                    operands = [computation[name] for name in instruction.operands[:2] if name in computation]
                    yield {operand.dtype for operand in operands}, instruction

    def transposed_parameters(self, min_size: int) -> Iterator[tuple[Instruction, Instruction]]:
        """Parameters of the program, and what moves their values into another order, as they are or in another dtype.

        Args:
          min_size: elements of the smallest parameter that is looked for.
        """
        entry = self.computations[self.entry].values()
        large = {one.name: one for one in entry if one.opcode == "parameter" and prod(one.shape) >= min_size}
        yield from self._moved(self.entry, large)

    def _moved(self, computation: str, parameters: dict[str, Instruction]) -> Iterator[tuple[Instruction, Instruction]]:
        instructions = self.computations[computation]
        origin = dict(parameters)
        for one in instructions.values():
            taken = {index: origin[name] for index, name in enumerate(one.operands) if name in origin}
            if not taken:
                continue
            if one.opcode == "transpose" or (one.opcode == "copy" and _is_reordered(one, instructions)):
                yield taken[0], one
            elif one.opcode in ("bitcast", "convert", "reshape", "copy"):
                origin[one.name] = taken[0]
            elif one.called in self.computations:
                inner = {
                    other.name: taken[int(number[1])]
                    for other in self.computations[one.called].values()
                    if (number := re.search(r" parameter\((\d+)\)", other.line)) and int(number[1]) in taken
                }
                yield from self._moved(one.called, inner)
                if all(other.opcode in ("parameter", "convert", "bitcast") for other in self._of(one.called)):
                    origin[one.name] = next(iter(taken.values()))

    def _of(self, computation: str) -> list[Instruction]:
        return list(self.computations[computation].values())

    def _all(self) -> Iterator[Instruction]:
        for computation in self.computations.values():
            yield from computation.values()


def _is_reordered(copy: Instruction, instructions: dict[str, Instruction]) -> bool:
    source = instructions.get(copy.operands[0])
    return source is None or source.layout != copy.layout
