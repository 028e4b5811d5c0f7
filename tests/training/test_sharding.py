"""Layouts: their rules, and that a step is the same on any number of devices with a part of the weights on each."""

from __future__ import annotations

import functools
import math
from typing import Any, NamedTuple

import jax
import numpy as np
import pytest
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P

from spectra_jax.checkpoints.checkpoint import weight_shapes
from spectra_jax.errors import ConfigError
from spectra_jax.model.config import SpectraConfig
from spectra_jax.training import RunConfig, TrainingConfig
from spectra_jax.training.sharding import Layout, ShardingConfig
from tests.training.forced_devices import output_of
from tests.training.runs import config

QUERY = "encoder.layers.0.attention.query.kernel"
OUT = "encoder.layers.1.attention.out.kernel"
FIRST = "encoder.feature_extractor.layers.0.conv.kernel"
BRIDGE = "bridge.linear1.kernel"


PATHS = QUERY, OUT, FIRST, BRIDGE
ADAPTERS = QUERY.replace("kernel", "lora_a"), QUERY.replace("kernel", "lora_b")
FSDP: dict[str, Any] = {"sharding": "fsdp"}
LORA: dict[str, Any] = {"lora": {"rank": 4}}


class Case(NamedTuple):
    """A layout, and the shares of `PATHS` (with LoRA of `ADAPTERS`) that each device has."""

    devices: int
    training: dict[str, Any]
    shares: tuple[float, ...]
    back_end: str = "pool+linear"
    long: bool = False


CASES = [
    *(Case(devices, {}, (1, 1, 1, 1), long=devices in (2, 8)) for devices in (1, 2, 4, 8)),
    Case(1, FSDP, (1, 1, 1, 1), long=True),
    Case(2, FSDP, (1 / 2, 1 / 2, 1 / 2, 1), long=True),
    Case(4, FSDP | {"remat": True}, (1 / 4, 1 / 4, 1 / 4, 1), long=True),
    Case(8, FSDP, (1 / 8, 1 / 8, 1 / 8, 1)),
    Case(2, {"sharding": {"tensor": 2}}, (1 / 2, 1 / 2, 1, 1), long=True),
    Case(4, {"sharding": {"tensor": 2}}, (1 / 4, 1 / 4, 1 / 2, 1)),
    Case(8, {"sharding": {"clips": 2, "tensor": 2}}, (1 / 4, 1 / 4, 1 / 2, 1), long=True),
    Case(4, {"sharding": {"clips": 2, "rules": [["bridge/*/kernel", ["fsdp", None]]]}}, (1, 1, 1, 1 / 2)),
    Case(1, LORA, (1, 1)),
    Case(8, LORA | {"sharding": {"tensor": 2}}, (1 / 4, 1 / 2)),
    # With batch norms, whose statistics are those of all clips. The graph takes a minute to compile for each layout.
    Case(1, {}, (1, 1, 1, 1), "kan-aasist", long=True),
    Case(2, FSDP, (1 / 2, 1 / 2, 1 / 2, 1), "kan-aasist", long=True),
]


@functools.cache
def outputs_of(back_end: str, long: bool) -> dict[str, Any]:
    """The output of `tests.programs.sharded_steps` for cases with this back-end, by `name_of` the case."""
    cases = [case for case in CASES if (case.back_end, case.long) == (back_end, long)]
    asked = [{"devices": case.devices, "training": case.training, "back_end": back_end} for case in cases]
    return dict(zip(map(name_of, cases), output_of("sharded_steps", asked), strict=True))


def name_of(case: Case) -> str:
    return f"{case.devices} {case.back_end} {case.training}"


@pytest.mark.parametrize(
    "case",
    [pytest.param(case, marks=pytest.mark.long if case.long else pytest.mark.slow, id=name_of(case)) for case in CASES],
)
def test_every_layout_takes_the_same_steps(case: Case) -> None:
    output = outputs_of(case.back_end, case.long)[name_of(case)]
    training = LORA if "lora" in case.training else {}
    (one,) = (
        other for other in CASES if (other.devices, other.training, other.back_end) == (1, training, case.back_end)
    )
    one_device = outputs_of(one.back_end, one.long)[name_of(one)]
    assert output["losses"] == pytest.approx(one_device["losses"], rel=1e-5)
    assert output["norms"] == pytest.approx(one_device["norms"], rel=1e-4)
    # See `Layout.summed_here`. XLA sums over `tensor` where a product is, and batch norms in the loop over branches.
    if case.back_end == "pool+linear" and "tensor" not in case.training.get("sharding", {}):
        # One device has none, unless its weights are gathered over an axis of their own.
        assert (output["sums"] > 0) == (case.devices > 1 or "sharding" in case.training)
        assert output["nested"] == 0
    # Weights, their average, and both moments of the optimiser.
    assert len(output["shares"]) == 4
    for found in output["shares"]:
        assert tuple(found[path] for path in (ADAPTERS if training else PATHS)) == case.shares


def layout(**axes: int) -> Layout:
    """The default rules over a mesh of this shape, whose devices are all the same."""
    config = ShardingConfig.from_dict(dict(axes))
    return Layout.of(config, jax.devices()[:1] * int(np.prod([*axes.values()])))


def test_the_default_rules_shard_nearly_all_weights_of_the_published_network() -> None:
    found = layout(fsdp=4, tensor=2)
    shapes = weight_shapes(SpectraConfig())
    sizes = {path: math.prod(shape.shape) for path, shape in shapes.items() if path.startswith("encoder.")}
    sharded = sum(size for path, size in sizes.items() if found.spec(path, shapes[path].shape) != P())
    assert sharded > 0.999 * sum(sizes.values())
    assert found.spec(QUERY, (1024, 1024)) == P("fsdp", "tensor")
    assert found.spec(OUT, (1024, 1024)) == P("tensor", "fsdp")
    assert found.spec(BRIDGE, (1024, 128)) == P()


@pytest.mark.parametrize(
    ("pattern", "matched"),
    [
        ("encoder/**/kernel", {QUERY, OUT, FIRST, "encoder.kernel"}),
        ("**/kernel", {QUERY, OUT, FIRST, BRIDGE, "encoder.kernel"}),
        ("encoder/layers/*/attention/query/kernel", {QUERY}),
        ("encoder/*/kernel", set()),
        ("bridge/linear1/kernel", {BRIDGE}),
        ("kernel", set()),
    ],
)
def test_patterns(pattern: str, matched: set[str]) -> None:
    found = Layout(Mesh(np.array(jax.devices()[:1]), ("fsdp",)), ((pattern, ("fsdp", None)),))
    paths = (QUERY, OUT, FIRST, BRIDGE, "encoder.kernel")
    assert {path for path in paths if found.spec(path, (8, 8)) != P()} == matched


def test_the_first_rule_that_matches_is_used() -> None:
    rules = ((QUERY.replace(".", "/"), (None, "fsdp")), ("encoder/**", ("fsdp", None)))
    found = Layout(Mesh(np.array(jax.devices()[:1]), ("fsdp",)), rules)
    assert found.spec(QUERY, (8, 8)) == P(None, "fsdp")
    assert found.spec(OUT, (8, 8)) == P("fsdp", None)


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        (
            (6, 8),
            r"encoder\.layers\.0\.attention\.query\.kernel of shape \(6, 8\), but the 4 devices of the axis 'fsdp'",
        ),
        ((8,), "names the axes of 2 dimensions: give an axis or null for each"),
    ],
)
def test_a_rule_that_does_not_fit_its_weight_is_an_error(shape: tuple[int, ...], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        layout(fsdp=4).spec(QUERY, shape)


def test_axes_that_do_not_divide_the_devices_are_an_error() -> None:
    with pytest.raises(ValueError, match="clips = 1, fsdp = the rest and tensor = 2 do not divide 3 devices"):
        Layout.of(ShardingConfig(tensor=2), jax.devices()[:1] * 3)


@pytest.mark.parametrize(
    "value",
    [
        "tensor",
        2,
        {"tensor": 0},
        {"rules": [["encoder/**"]]},
        {"rules": [["encoder/**", ["clips", None]]]},
        {"axes": 1},
    ],
    ids=str,
)
def test_a_sharding_that_is_none_is_an_error(value: Any) -> None:
    with pytest.raises(ConfigError):
        config(sharding=value)


def test_the_configuration_is_written_as_it_was_read() -> None:
    assert "sharding" not in TrainingConfig().to_dict() and "lora" not in TrainingConfig().to_dict()
    settings = config(sharding={"tensor": 2, "rules": [["encoder/**/kernel", ["fsdp", None]]]}, lora={"rank": 4})
    assert RunConfig.from_dict(settings.to_dict()) == settings
    assert config(sharding="fsdp").training.sharding == ShardingConfig()
