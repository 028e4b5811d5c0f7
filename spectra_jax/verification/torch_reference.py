"""A PyTorch module as the reference: its weights from safetensors, loaded strictly, and its own code.

    DIR/reference.py         defines build(config: dict) -> torch.nn.Module
    DIR/model.safetensors    every tensor of the module's state_dict, and no other
    DIR/config.json          what `build` is given; {} where there is none

The module takes windows (b, samples) after pre-emphasis and returns logits (b, 2). Nothing is ever unpickled, but
`reference.py` is Python and can do whatever you can: it is run only where the caller says so.
"""

from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from spectra_jax.hub import CONFIG, WEIGHTS
from spectra_jax.trials import InputError, count, examples
from spectra_jax.verification.stages import Stage

CODE = "reference.py"


class TorchReference:
    """A PyTorch module, on the CPU, in evaluation mode.

    Args:
      directory: see the top of this file.
      run_code: whether `reference.py` may be run.
      precision: float32 or float64.

    Raises:
      InputError: files that are not there or damaged, code that fails, weights that do not fit, PyTorch missing, or
        `run_code` is False: then nothing was run.
    """

    def __init__(self, directory: str | Path, *, run_code: bool, precision: str = "float32"):
        directory = Path(directory)
        if not directory.is_dir():
            raise InputError(f"{directory}: no such directory; a PyTorch reference is one with {CODE} and {WEIGHTS}")
        if missing := [name for name in (CODE, WEIGHTS) if not (directory / name).is_file()]:
            raise InputError(
                f"{directory}: no {' and no '.join(missing)} in it. {CODE} defines build(config) -> torch.nn.Module, and "
                f"{WEIGHTS} holds its weights; pickles are never read"
            )
        if not run_code:
            raise InputError(
                f"{directory}: comparing runs {directory / CODE}, which is Python and can do whatever you can. Read it, "
                "then allow it with --run-reference-code. Nothing has been run."
            )
        self.name = f"torch:{directory}"
        self.precision = precision
        self._module = _load(directory, precision)

    def logits(self, windows: np.ndarray) -> np.ndarray:
        """Logits (n, 2) of windows (n, samples).

        Raises:
          InputError: the module fails, or answers otherwise.
        """
        return self._run(windows)

    def stages(self, windows: np.ndarray, table: Sequence[Stage]) -> tuple[dict[str, np.ndarray], dict[str, str]]:
        """The stages whose modules the reference has under the checkpoint's names, and why the others are missing."""
        modules = dict(self._module.named_modules())
        calls: dict[str, tuple[Any, Any]] = {}

        def recorder(name: str) -> Callable[..., None]:
            def record(module: Any, arguments: Any, output: Any) -> None:
                calls[name] = (arguments, output)

            return record

        wanted = {stage.module for stage in table} & modules.keys()
        hooks = [modules[name].register_forward_hook(recorder(name)) for name in wanted]
        try:
            self._run(windows)
        finally:
            for hook in hooks:
                hook.remove()
        seen, missing = {}, {}
        for stage in table:
            if stage.module not in modules:
                missing[stage.name] = f"the reference has no module {stage.module}"
            elif stage.module not in calls:
                missing[stage.name] = f"the reference does not call its module {stage.module}"
            else:
                value = calls[stage.module][0 if stage.is_input else 1]
                array = _tensor(value, stage.part)
                if array is None:
                    missing[stage.name] = f"what {stage.module} gives holds no tensor {stage.part}"
                else:
                    seen[stage.name] = array
        return seen, missing

    def _run(self, windows: np.ndarray) -> np.ndarray:
        import torch

        try:
            with torch.inference_mode():
                answer = self._module(torch.from_numpy(windows).to(getattr(torch, self.precision)))
        except Exception as error:
            raise InputError(f"{self.name}: the module fails: {_described(error)}") from error
        if not isinstance(answer, torch.Tensor) or tuple(answer.shape) != (len(windows), 2):
            shape = tuple(answer.shape) if isinstance(answer, torch.Tensor) else type(answer).__name__
            raise InputError(f"{self.name}: logits ({len(windows)}, 2) were expected, and the module gives {shape}")
        return answer.detach().cpu().numpy()


def _load(directory: Path, precision: str) -> Any:
    try:
        import torch
        from safetensors.torch import load_file
    except ImportError as error:
        raise InputError(
            "a PyTorch reference needs PyTorch: pip install 'spectra-jax[parity]' "
            f"({error.name or error} is not installed)"
        ) from error
    config = {}
    if (directory / CONFIG).exists():
        try:
            config = json.loads((directory / CONFIG).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise InputError(f"{directory / CONFIG}: no readable JSON: {error}") from error
    try:
        weights = load_file(directory / WEIGHTS)
    except Exception as error:
        raise InputError(f"{directory / WEIGHTS}: no readable safetensors file: {error}") from error
    with _importable(directory):
        build = _build_function(directory)
        try:
            module = build(config)
        except Exception as error:
            raise InputError(f"{directory / CODE}: build(config) fails: {_described(error)}") from error
    if not isinstance(module, torch.nn.Module):
        raise InputError(f"{directory / CODE}: build(config) gives {type(module).__name__}, not a torch.nn.Module")
    try:
        module.load_state_dict(weights, strict=True)
    except RuntimeError as error:
        lines = [line.strip() for line in str(error).splitlines()[1:]]
        raise InputError(
            f"{directory / WEIGHTS}: {count(len(lines), 'problem')} in loading it strictly:{examples(lines)}"
        ) from error
    return module.eval().to(getattr(torch, precision))


@contextmanager
def _importable(directory: Path) -> Iterator[None]:
    """While open, the files beside `reference.py` can be imported by their names."""
    sys.path.insert(0, str(directory.resolve()))
    try:
        yield
    finally:
        sys.path.remove(str(directory.resolve()))


def _build_function(directory: Path) -> Callable[[Mapping[str, Any]], Any]:
    path = directory / CODE
    spec = importlib.util.spec_from_file_location("spectra_jax_reference", path)
    assert spec is not None and spec.loader is not None
    code = importlib.util.module_from_spec(spec)
    # Dataclasses look their own module up.
    sys.modules[spec.name] = code
    try:
        spec.loader.exec_module(code)
    except Exception as error:
        raise InputError(f"{path}: cannot be run: {_described(error)}") from error
    build = getattr(code, "build", None)
    if not callable(build):
        raise InputError(f"{path}: defines no build(config) -> torch.nn.Module")
    return build


def _tensor(value: Any, part: int) -> np.ndarray | None:
    """A tensor out of what goes into or comes out of a module: the thing itself, or one of a tuple."""
    import torch

    values = list(value) if isinstance(value, tuple | list) else [value]
    if part >= len(values) or not isinstance(values[part], torch.Tensor):
        return None
    return values[part].detach().cpu().numpy()


def _described(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"
