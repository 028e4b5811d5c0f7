"""What is measured on a GPU, in order of importance. Without JAX and PyTorch: the parent imports this."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Self

OURS, EAGER, COMPILED = "spectra-jax", "PyTorch eager", "PyTorch torch.compile"
BFLOAT16_WEIGHTS = "weights in bfloat16"

REFERENCE_BATCH = 8
"""The logits of ours in float32 for so many windows are what all other logits are compared with."""

STAGES = (
    *("feature extractor", "feature projection", "positional convolution", "transformer layers", "bridge"),
    *("residual encoder and attention map", "graph back-end", "whole network"),
)
"""The stages of `benchmarks/speed/flops.py`, and the network. A test compares them."""

COMPILED_TOGETHER = 2
"""Programs that are compiled at the same time, before the first of them is timed.

Compiling times kernels on the card: of the full network on an H200 one program took 30 s, three together 65 s, and five
134 s.
"""


@dataclass(frozen=True)
class Case:
    """One planned measurement.

    Attributes:
      batch: clips of a call; 0 where there are none.
      variant: what is special about it, for example a stage, or a mode of `torch.compile`.
    """

    contender: str
    precision: str
    batch: int = 0
    variant: str = ""

    def __str__(self) -> str:
        parts = (self.contender, self.precision, f"batch {self.batch}" if self.batch else "", self.variant)
        return ", ".join(filter(None, parts))


@dataclass(frozen=True)
class Row:
    """The result of one case.

    Attributes:
      seconds: of one call, the mean of each run of `calls` calls; None if it was not measured.
      calls: of one run.
      amount: of one call: floating-point operations, or for copies bytes read and written.
      compile_seconds: until the first call could be made, or of the first calls where they compile.
      peak_bytes: the most device memory in use while it ran; of JAX None where the process had used more before.
      planned_bytes: the compiler's plan: arguments, output, temporaries and code, and their peak where it states one.
      difference: largest difference of a logit from ours in float32, of the same windows.
      score: that a cold start printed, or the loss of a training step.
      problem: why it was not measured.
    """

    case: Case
    seconds: list[float] | None = None
    calls: int = 1
    amount: float | None = None
    compile_seconds: float | None = None
    peak_bytes: int | None = None
    planned_bytes: dict[str, int] = field(default_factory=dict)
    difference: float | None = None
    score: float | None = None
    problem: str | None = None

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        return cls(**{**values, "case": Case(**values["case"])})


@dataclass(frozen=True)
class Section:
    """What one worker process measures.

    Attributes:
      share: of the time, in proportion to the shares of the sections that are still to come.
    """

    name: str
    share: float
    cases: Sequence[Case]


def _cases(contender: str, precision: str, batches: Iterable[int], variant: str = "") -> list[Case]:
    return [Case(contender, precision, batch, variant) for batch in batches]


def _peaks(library: str, precisions: Iterable[str]) -> list[Case]:
    return [Case(library, precision) for precision in (*precisions, "copy")]


STORED, COMPUTED_AGAIN = "activations stored", "activations computed again"

TRAINING = tuple(
    Case(contender, "bfloat16", batch, variant)
    for batch, variant in ((8, STORED), (32, STORED), (32, COMPUTED_AGAIN), (8, COMPUTED_AGAIN))
    for contender in (OURS, EAGER)
)

COLD = (
    Case(OURS, "float32", 1, "empty compilation cache"),
    Case(OURS, "float32", 1, "filled compilation cache"),
    Case(EAGER, "float32", 1),
)


def sections(*, smoke: bool = False) -> list[Section]:
    """All sections, the most important first. With `smoke`, the same ones with few and small cases."""
    if smoke:
        return _smoke_sections()
    headline = (64, 1, 8, 256)
    return [
        Section("peak-jax", 25, _peaks("JAX", ("bfloat16", "float16", "tf32", "tf32, default precision", "float32"))),
        Section("peak-torch", 20, _peaks("PyTorch", ("bfloat16", "float16", "tf32", "float32"))),
        Section(
            "ours",
            170,
            [
                Case(OURS, "float32", REFERENCE_BATCH),
                *_cases(OURS, "bfloat16", headline),
                *_cases(OURS, "float32", (64, 1)),
                *_cases(OURS, "tf32", (64, 8, 1)),
            ],
        ),
        Section(
            "eager",
            70,
            [
                *_cases(EAGER, "bfloat16", headline),
                *_cases(EAGER, "float32", (64, 8, 1)),
                *_cases(EAGER, "tf32", (64, 8, 1)),
                *_cases(EAGER, "bfloat16", (64, 1), BFLOAT16_WEIGHTS),
            ],
        ),
        Section(
            "compiled",
            150,
            [
                Case(COMPILED, "bfloat16", 64),
                Case(COMPILED, "tf32", 64),
                Case(COMPILED, "float32", 64),
                Case(COMPILED, "bfloat16", 1, "reduce-overhead"),
                *_cases(COMPILED, "bfloat16", (8, 1)),
                Case(COMPILED, "bfloat16", 64, "max-autotune-no-cudagraphs"),
            ],
        ),
        Section(
            "more-batches",
            80,
            [
                *_cases(OURS, "bfloat16", (2, 4, 16, 32, 128)),
                *_cases(OURS, "bfloat16", (512,)),
                *_cases(OURS, "float32", (256,)),
                *_cases(OURS, "tf32", (256,)),
                *_cases(OURS, "float16", (64,)),
            ],
        ),
        Section("stages", 60, [Case(OURS, kind, 64, stage) for kind in ("bfloat16", "float32") for stage in STAGES]),
        Section("cold", 40, COLD),
        Section("training", 90, TRAINING),
        Section(
            "scorer",
            30,
            [
                Case(OURS, "bfloat16", 64, "logits"),
                Case(OURS, "bfloat16", 64, "score_trials"),
                Case(OURS, "float32", 64, "logits"),
            ],
        ),
    ]


def _smoke_sections() -> list[Section]:
    return [
        Section("peak-jax", 1, _peaks("JAX", ("bfloat16", "tf32", "tf32, default precision", "float32"))),
        Section("peak-torch", 1, _peaks("PyTorch", ("bfloat16", "tf32", "float32"))),
        Section(
            "ours",
            1,
            [Case(OURS, "float32", REFERENCE_BATCH), Case(OURS, "bfloat16", 1), Case(OURS, "tf32", 2)],
        ),
        Section(
            "eager",
            1,
            [
                Case(EAGER, "bfloat16", 1),
                Case(EAGER, "tf32", 1),
                Case(EAGER, "float32", 1),
                Case(EAGER, "bfloat16", 1, BFLOAT16_WEIGHTS),
            ],
        ),
        Section("compiled", 1, [Case(COMPILED, "bfloat16", 1), Case(COMPILED, "bfloat16", 1, "reduce-overhead")]),
        Section("more-batches", 1, [Case(OURS, "float16", 2)]),
        Section("stages", 1, [Case(OURS, "bfloat16", 2, stage) for stage in STAGES]),
        Section("cold", 1, COLD),
        Section(
            "training",
            1,
            [Case(OURS, "bfloat16", 2, STORED), Case(EAGER, "bfloat16", 2, COMPUTED_AGAIN)],
        ),
        Section("scorer", 1, [Case(OURS, "bfloat16", 2, "logits"), Case(OURS, "bfloat16", 2, "score_trials")]),
    ]


@dataclass(frozen=True)
class Job:
    """What a worker is started with.

    Attributes:
      network, work, device: see `benchmarks.speed.network.Network`.
      deadline: `time.time()` after which the worker is ended.
    """

    section: str
    network: str
    work: str
    device: str
    smoke: bool
    deadline: float
    cases: Sequence[Case]

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        return cls(**{**values, "cases": [Case(**case) for case in values["cases"]]})
