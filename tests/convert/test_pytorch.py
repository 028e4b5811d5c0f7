"""Reading and writing PyTorch files: strictness, the message for each fault, and accepted variants."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file

from spectra_jax.checkpoints.checkpoint import Checkpoint, weight_shapes
from spectra_jax.checkpoints.resolve import open_checkpoint
from spectra_jax.convert import convert, expand, read_pytorch, write_pytorch
from spectra_jax.convert.table import POSITIONAL, WEIGHT_NORM, WEIGHT_NORM_OLD
from spectra_jax.errors import CheckpointError, ConfigError, TensorFileError
from tests.conftest import spectra
from tests.convert.pytorch_files import (
    CONV,
    COUNT,
    FORMATS,
    GRID,
    LARGEST,
    LINEAR,
    SETTINGS,
    SLOPE,
    TINY,
    TINY_CONFIG,
    Tensors,
    assert_only_the_pair_was_rounded,
    assert_same,
    in_files,
    in_old_style,
    refused,
    save,
)


@pytest.fixture(scope="module")
def tiny_copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the tiny PyTorch directory, to be changed and restored."""
    return save(tmp_path_factory.mktemp("fuzz") / "tiny", load_file(TINY / "model.safetensors"))


@pytest.fixture(scope="module")
def tiny_weights(tiny_checkpoint: Checkpoint) -> Tensors:
    """The weights of the tiny network; not to be changed."""
    return dict(tiny_checkpoint)


@contextmanager
def flipped(path: Path, position: int, change: int) -> Iterator[None]:
    """Within the context, the file with one byte changed."""
    with path.open("r+b", buffering=0) as file:
        file.seek(position)
        (byte,) = file.read(1)
        file.seek(position)
        file.write(bytes([byte ^ change]))
        try:
            yield
        finally:
            file.seek(position)
            file.write(bytes([byte]))


def tensor_offsets(path: Path) -> tuple[int, dict[str, list[int]]]:
    """The position at which the data of a file start, and the offsets of each tensor from it."""
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(length))
    return 8 + length, {name: entry["data_offsets"] for name, entry in header.items() if name != "__metadata__"}


fuzzing = settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@settings(fuzzing, max_examples=50)
@given(data=st.data())
def test_a_changed_value_changes_one_weight_or_is_refused(
    data: st.DataObject, tiny_copy: Path, tiny_weights: Tensors
) -> None:
    start, offsets = tensor_offsets(tiny_copy / "model.safetensors")
    name = data.draw(st.sampled_from(sorted(offsets)), label="tensor")
    position = start + data.draw(st.integers(offsets[name][0], offsets[name][1] - 1), label="position")
    with flipped(tiny_copy / "model.safetensors", position, 1 << data.draw(st.integers(0, 7), label="bit")):
        try:
            # Copies, since the arrays are views of the file, which is restored below.
            found = {path: weight.copy() for path, weight in open_checkpoint(tiny_copy)}
        except CheckpointError as error:
            (problem,) = error.problems
            # NaN and infinity are reported by the Flax path, other problems by the tensor.
            assert name in problem or "NaN or infinite" in problem
            return
    assert not name.endswith(".grid")
    source = {entry.target: entry.source for entry in expand(TINY_CONFIG, weight_shapes(TINY_CONFIG))}
    changed = [source[path] for path, weight in tiny_weights.items() if weight.tobytes() != found[path].tobytes()]
    assert changed == [f"{POSITIONAL}.weight" if name in WEIGHT_NORM else name]


@settings(fuzzing, max_examples=40)
@given(data=st.data())
def test_a_changed_header_never_changes_the_weights(
    data: st.DataObject, tiny_copy: Path, tiny_weights: Tensors
) -> None:
    start, _ = tensor_offsets(tiny_copy / "model.safetensors")
    with ExitStack() as flips:
        for position in data.draw(
            st.lists(st.integers(0, start - 1), min_size=1, max_size=2, unique=True), label="positions"
        ):
            change = data.draw(st.integers(1, 255), label="change")
            flips.enter_context(flipped(tiny_copy / "model.safetensors", position, change))
        try:
            found = dict(open_checkpoint(tiny_copy))
        except (TensorFileError, CheckpointError):
            found = None
    # If the changed file was refused, the restored one must be accepted.
    assert_same(dict(open_checkpoint(tiny_copy)) if found is None else found, tiny_weights)


@settings(fuzzing, max_examples=50)
@given(data=st.data())
def test_truncated_and_overlong_files_are_refused(data: st.DataObject, tmp_path: Path) -> None:
    content = (TINY / "model.safetensors").read_bytes()
    length = data.draw(st.integers(0, len(content) + 100).filter(lambda length: length != len(content)))
    (tmp_path / "model.safetensors").write_bytes(content[:length].ljust(length, b"\0"))
    (tmp_path / "config.json").write_bytes((TINY / "config.json").read_bytes())
    with pytest.raises(TensorFileError, match=r"model\.safetensors: "):
        open_checkpoint(tmp_path)


def without(name: str) -> Callable[[Tensors], object]:
    return lambda tensors: tensors.pop(name)


def put(name: str, array: np.ndarray) -> Callable[[Tensors], object]:
    return lambda tensors: tensors.update({name: array})


def recast(name: str, change: Callable[[np.ndarray], np.ndarray]) -> Callable[[Tensors], object]:
    return lambda tensors: tensors.update({name: change(tensors[name])})


def at(name: str, value: float) -> Callable[[Tensors], object]:
    """One value of a tensor set."""
    return lambda tensors: tensors[name].reshape(-1).__setitem__(-1, value)


BFLOAT16 = jnp.bfloat16.dtype


NAMES: list[tuple[Callable[[Tensors], object], list[str]]] = [
    (without(SLOPE), [f"missing tensor {SLOPE} [1]"]),
    (without(GRID), [f"missing tensor {GRID} [80, 25]"]),
    (without(COUNT), [f"missing tensor {COUNT} []"]),
    (without(WEIGHT_NORM[0]), [f"missing tensor {WEIGHT_NORM[0]} [1, 1, 128]"]),
    (without(WEIGHT_NORM[1]), [f"missing tensor {WEIGHT_NORM[1]} [64, 4, 128]"]),
    (
        put("ssl_encoder.model.masked_spec_embed", np.ones(64, np.float32)),
        ["unexpected tensor ssl_encoder.model.masked_spec_embed [64]"],
    ),
    (put(f"{POSITIONAL}.weight", np.ones(3, np.float32)), [f"unexpected tensor {POSITIONAL}.weight [3]"]),
    # Both styles, or one of each: two candidates for one weight.
    (put(WEIGHT_NORM_OLD[0], np.ones(3, np.float32)), [f"unexpected tensor {WEIGHT_NORM_OLD[0]} [3]"]),
    (
        lambda tensors: tensors.update({WEIGHT_NORM_OLD[0]: tensors.pop(WEIGHT_NORM[0])}),
        [f"missing tensor {WEIGHT_NORM[0]} [1, 1, 128]", f"unexpected tensor {WEIGHT_NORM_OLD[0]} [1, 1, 128]"],
    ),
    (
        lambda tensors: tensors.update(
            {WEIGHT_NORM_OLD[0]: tensors.pop(WEIGHT_NORM[0]), WEIGHT_NORM_OLD[1]: tensors[WEIGHT_NORM[1]]}
        ),
        [
            f"missing tensor {WEIGHT_NORM[0]} [1, 1, 128]",
            f"unexpected tensor {WEIGHT_NORM_OLD[0]} [1, 1, 128]",
            f"unexpected tensor {WEIGHT_NORM_OLD[1]} [64, 4, 128]",
        ],
    ),
    (recast(LINEAR, np.transpose), [f"{LINEAR} has shape [64, 48], expected [48, 64]"]),
    (recast(CONV, lambda a: a[..., :2]), [f"{CONV} has shape [16, 1, 2, 2], expected [16, 1, 2, 3]"]),
    (recast(SLOPE, lambda a: a[0]), [f"{SLOPE} has shape [], expected [1]"]),
    (recast(COUNT, np.atleast_1d), [f"{COUNT} has shape [1], expected []"]),
    (recast(GRID, lambda a: a[:1]), [f"{GRID} has shape [1, 25], expected [80, 25]"]),
    (recast(LINEAR, lambda a: a.astype(np.int32)), [f"{LINEAR} has dtype I32, expected F32"]),
    (recast(CONV, lambda a: a.astype(np.float64)), [f"{CONV} has dtype F64, expected F32"]),
    (recast(SLOPE, lambda a: a.astype(np.float64)), [f"{SLOPE} has dtype F64, expected F32"]),
    (recast(COUNT, lambda a: a.astype(np.int32)), [f"{COUNT} has dtype I32, expected I64"]),
    (recast(WEIGHT_NORM[0], lambda a: a.astype(np.float64)), [f"{WEIGHT_NORM[0]} has dtype F64, expected F32"]),
]


VALUES: list[tuple[Callable[[Tensors], object], list[str]]] = [
    (at(LINEAR, np.nan), ["bridge.linear1.kernel: 1 of 3,072 values are NaN or infinite"]),
    (at(SLOPE, -np.inf), ["aasist.head.slope: 1 of 1 values are NaN or infinite"]),
    (
        # A direction of zeros: PyTorch would divide by zero.
        recast(WEIGHT_NORM[1], lambda a: a * (np.arange(128) != 5).astype(np.float32)),
        ["encoder.positional_convolution.conv.kernel: 256 of 32,768 values are NaN or infinite"],
    ),
    (at(COUNT, -1), [f"{COUNT} = -1, but a count of batches from 0 to 2,147,483,647 was expected"]),
    (
        at("aasist.enc.first_bn1.num_batches_tracked", LARGEST + 1),
        [
            f"aasist.enc.first_bn1.num_batches_tracked = {LARGEST + 1}, but a count of batches from 0 to 2,147,483,647 "
            "was expected"
        ],
    ),
    (at(GRID, 1.5000001), [f"{GRID} holds other knots than the configuration's (-1.5 to 1.5)"]),
    (
        at("aasist.pool_S.proj.grid", np.nan),
        ["aasist.pool_S.proj.grid holds other knots than the configuration's (-1.5 to 1.5)"],
    ),
]


@pytest.mark.parametrize(("change", "problems"), [*NAMES, *VALUES])
def test_each_fault_is_reported(
    change: Callable[[Tensors], object], problems: list[str], tiny: Tensors, tmp_path: Path
) -> None:
    change(tiny)
    _, *found = refused(save(tmp_path / "source", tiny), FORMATS[:1])
    assert sorted(found) == sorted(problems)


@pytest.mark.parametrize(
    ("faults", "summary"),
    [
        # The pair's faults exclude each other, and so do two of one tensor.
        ([NAMES[i] for i in (0, 1, 2, 5, 6, 7, 10, 16)], "not the tensors of a Spectra-AASIST3 checkpoint of this con"),
        ([NAMES[i] for i in (10, 11, 12, 13, 14, 19)], "the right tensors, but not of the sizes in the config"),
        ([NAMES[i] for i in (15, 16, 17, 18, 19)], "the right tensors, but not in the precision of"),
        (VALUES, "damaged weights"),
    ],
)
def test_all_faults_are_reported_together(
    faults: list[tuple[Callable[[Tensors], object], str]], summary: str, tiny: Tensors, tmp_path: Path
) -> None:
    for change, _ in faults:
        change(tiny)
    first, *found = refused(save(tmp_path / "source", tiny))
    assert first.startswith(summary)
    assert sorted(found) == sorted(problem for _, problems in faults for problem in problems)


def test_the_largest_count_of_batches_is_accepted(tiny: Tensors, tmp_path: Path) -> None:
    tiny[COUNT] = np.array(LARGEST)
    tiny["aasist.enc.first_bn1.num_batches_tracked"] = np.array(0)
    convert(save(tmp_path / "source", tiny), tmp_path / "native")
    convert(tmp_path / "native", tmp_path / "torch", "torch")
    assert_only_the_pair_was_rounded(load_file(tmp_path / "torch" / "model.safetensors"), tiny)


def test_other_knots_are_reported(tiny: Tensors, tmp_path: Path) -> None:
    grid_range = {"kan": {**SETTINGS["tiny"]["kan"], "grid_range": [-1.0, 2.0]}}
    summary, *problems = refused(save(tmp_path / "source", tiny, {**SETTINGS["tiny"], **grid_range}))
    assert summary == "damaged weights"
    assert len(problems) == sum(name.endswith(".grid") for name in tiny)
    assert all("holds other knots than the configuration's (-1.75 to 2.75)" in problem for problem in problems)


def test_other_names_of_the_residual_blocks_are_reported(tiny: Tensors, tmp_path: Path) -> None:
    # A public re-implementation has these names. It loads without an error, and its residual encoder stays random.
    renamed = {}
    for name, array in tiny.items():
        _, block, rest = name.rpartition(".0.") if name.startswith("aasist.enc.enc.") else (name, "", "")
        renamed[f"{name.removesuffix(block + rest)}.{rest}" if block else name] = array
    assert "aasist.enc.enc.0.conv1.weight" in renamed
    summary, *problems = refused(save(tmp_path / "source", renamed))
    count = sum(name.startswith("aasist.enc.enc.") for name in tiny)
    assert summary.endswith(f"of this configuration: {count} missing, {count} unexpected")
    assert "missing tensor aasist.enc.enc.0.0.conv1.weight [16, 1, 2, 3]" in problems
    assert "unexpected tensor aasist.enc.enc.0.conv1.weight [16, 1, 2, 3]" in problems
    # The message is cut after 20 problems; both names of a tensor are shown.
    shown = problems[:20]
    assert any("enc.enc.0.0.conv1.weight" in problem for problem in shown)
    assert any("enc.enc.0.conv1.weight" in problem for problem in shown)


@pytest.mark.parametrize("prefix", ["", "wav2vec2.", "module."])
def test_an_encoder_alone_is_refused(prefix: str, tiny: Tensors, tmp_path: Path) -> None:
    own = "ssl_encoder.model."
    encoder = {prefix + name.removeprefix(own): array for name, array in tiny.items() if name.startswith(own)}
    (summary,) = refused(save(tmp_path / "source", encoder))
    assert summary.startswith("This is a speech encoder alone (XLS-R, wav2vec 2.0 or the like), without the back-end")


def test_the_encoder_of_the_detector_without_its_back_end_is_refused(tiny: Tensors, tmp_path: Path) -> None:
    encoder = {name: array for name, array in tiny.items() if name.startswith("ssl_encoder.")}
    (summary,) = refused(save(tmp_path / "source", encoder))
    assert summary.startswith("This is a speech encoder alone")


def test_another_model_is_refused(tmp_path: Path, tiny: Tensors) -> None:
    summary, *problems = refused(save(tmp_path / "source", {"bert.layer.0.weight": np.ones(3, np.float32)}))
    assert summary == f"a checkpoint of another model: it has 0 of the {len(tiny)} tensors"
    assert len(problems) == len(tiny) + 1


def test_an_encoder_with_its_own_configuration_is_refused(tiny: Tensors, tmp_path: Path) -> None:
    """As `transformers` saves it: the message states what it is, not the sixty unknown fields."""
    settings_ = {"model_type": "wav2vec2", "architectures": ["Wav2Vec2Model"], **dict.fromkeys("abcdefg", 1)}
    (text,) = refused(save(tmp_path / "source", {"masked_spec_embed": np.ones(3, np.float32)}, settings_))
    assert text.startswith("a speech encoder alone (wav2vec 2.0, 12 layers of width 768, 94,371,584 parameters)")
    assert f"`spectra-jax train --encoder {tmp_path / 'source'}`" in text
    assert "unknown" not in text


def test_another_kind_of_encoder_is_refused(tiny: Tensors, tmp_path: Path) -> None:
    """With its own configuration, and a kind of model that this package lacks."""
    source = save(tmp_path / "source", tiny, {"model_type": "wav2vec2-conformer"})
    with pytest.raises(ConfigError, match='model_type = "wav2vec2-conformer", but it must be "spectra_aasist3"'):
        convert(source, tmp_path / "native")


def test_the_prefix_of_data_parallelism_is_accepted(
    tiny: Tensors,
    tiny_checkpoint: Checkpoint,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """As saved under PyTorch's data parallelism."""
    source = save(tmp_path / "source", {f"module.{name}": array for name, array in tiny.items()})
    checkpoint = open_checkpoint(source)
    assert_same(dict(checkpoint), dict(tiny_checkpoint))
    assert checkpoint.provenance["names_without"] == "module."
    assert spectra(monkeypatch, "convert", source, tmp_path / "native") == 0
    assert f"All names in {source} begin with module., which PyTorch's data parallelism adds" in capsys.readouterr().err
    assert open_checkpoint(tmp_path / "native").provenance["names_without"] == "module."


def test_a_prefix_of_some_names_only_is_refused(tiny: Tensors, tmp_path: Path) -> None:
    renamed = {(name if name == SLOPE else f"module.{name}"): array for name, array in tiny.items()}
    summary, *problems = refused(save(tmp_path / "source", renamed))
    assert summary == f"a checkpoint of another model: it has 1 of the {len(tiny)} tensors"
    assert f"unexpected tensor module.{LINEAR} [48, 64]" in problems


@pytest.mark.parametrize(("name", "half"), [("float16", np.dtype(np.float16)), ("bfloat16", jnp.bfloat16.dtype)])
def test_half_precision_weights_keep_their_values(name: str, half: np.dtype, tiny: Tensors, tmp_path: Path) -> None:
    halved = {key: array.astype(half) if array.dtype == np.float32 else array for key, array in tiny.items()}
    source = save(tmp_path / "source", halved)
    checkpoint = open_checkpoint(source)
    assert checkpoint.provenance["source_dtype"] == name
    convert(source, tmp_path / "torch", "torch")
    wide = {key: array.astype(np.float32) if array.dtype == half else array for key, array in halved.items()}
    found = load_file(tmp_path / "torch" / "model.safetensors")
    for key in wide:
        if key not in WEIGHT_NORM and not key.endswith(".grid"):
            np.testing.assert_array_equal(found[key], wide[key], strict=True)


def test_several_float_dtypes_keep_their_values(
    tiny: Tensors,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """As mixed-precision training saves them: each tensor in float32, float16 or bfloat16."""
    mixed = dict(tiny)
    for name, dtype in ((LINEAR, np.dtype(np.float16)), (CONV, BFLOAT16), (WEIGHT_NORM[0], BFLOAT16)):
        mixed[name] = mixed[name].astype(dtype)
    source = save(tmp_path / "source", mixed)
    wide = {key: array.astype(np.float32) if array.dtype.itemsize == 2 else array for key, array in mixed.items()}
    checkpoint = open_checkpoint(source)
    assert checkpoint.provenance["source_dtype"] == "bfloat16 and float16 and float32"
    assert_same(dict(checkpoint), dict(open_checkpoint(save(tmp_path / "wide", wide))))
    assert spectra(monkeypatch, "convert", source, tmp_path / "native") == 0
    assert "are bfloat16 and float16 and float32; the same values are written as" in capsys.readouterr().err


def test_other_knots_in_half_precision_are_reported(tiny: Tensors, tmp_path: Path) -> None:
    tiny[GRID] = tiny[GRID] * np.float32(1.5)
    halved = {key: array.astype(np.float16) if array.dtype == np.float32 else array for key, array in tiny.items()}
    summary, *problems = refused(save(tmp_path / "source", halved))
    assert summary == "damaged weights"
    assert problems == [f"{GRID} holds other knots than the configuration's (-1.5 to 1.5)"]


def test_a_checkpoint_in_several_files_is_read(tiny: Tensors, tiny_checkpoint: Checkpoint, tmp_path: Path) -> None:
    folder = in_files(tmp_path / "source", tiny)
    for name in (folder, folder / "model.safetensors.index.json"):
        assert_same(dict(open_checkpoint(name)), dict(tiny_checkpoint))
    convert(folder, tmp_path / "native")
    checkpoint = open_checkpoint(tmp_path / "native")
    assert_same(dict(checkpoint), dict(tiny_checkpoint))
    assert checkpoint.provenance["source_sha256"] == open_checkpoint(folder).sha256()


def test_one_file_of_several_is_refused(tiny: Tensors, tmp_path: Path) -> None:
    folder = in_files(tmp_path / "source", tiny)
    with pytest.raises(CheckpointError, match="one file of a checkpoint that is split into several; give its"):
        open_checkpoint(folder / "model-00001-of-00003.safetensors")


def test_a_tensor_missing_from_all_files_is_reported(tiny: Tensors, tmp_path: Path) -> None:
    del tiny[LINEAR]
    _, *problems = refused(in_files(tmp_path / "source", tiny))
    assert problems == [f"missing tensor {LINEAR} [48, 64]"]


def test_other_sizes_are_reported(tiny: Tensors, tmp_path: Path) -> None:
    summary, *problems = refused(save(tmp_path / "source", tiny, {**SETTINGS["tiny"], "bridge_dim": 64}))
    assert summary == "the right tensors, but not of the sizes in the configuration; is its config.json beside it?"
    assert "bridge.mlp.0.weight has shape [48, 64], expected [64, 64]" in problems


def test_both_names_of_weight_norm_are_accepted(tiny: Tensors, tiny_checkpoint: Checkpoint, tmp_path: Path) -> None:
    old = in_old_style(tiny)
    assert sum(name.endswith(("weight_g", "weight_v")) for name in old) == 2
    source = save(tmp_path / "old", old)
    assert_same(dict(open_checkpoint(source)), dict(tiny_checkpoint))
    # What is written has the published names, whatever was read.
    convert(source, tmp_path / "torch", "torch")
    assert load_file(tmp_path / "torch" / "model.safetensors").keys() == tiny.keys()


def test_an_older_file_survives_a_failure(tiny: Tensors, tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    path.write_text("old")
    tiny[SLOPE][:] = np.nan
    damaged = read_pytorch(save(tmp_path / "source", tiny) / "model.safetensors", TINY_CONFIG)
    with pytest.raises(CheckpointError):
        write_pytorch(damaged, path)
    assert path.read_text() == "old"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model.safetensors", "source"]
