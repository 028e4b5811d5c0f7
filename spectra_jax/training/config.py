"""How a detector is trained: frozen, validated, JSON in and out, like the network's own configuration."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Self

from spectra_jax.data.tables import require_plain_file
from spectra_jax.errors import ConfigError
from spectra_jax.files.untrusted import read_json
from spectra_jax.model.config import Section, SpectraConfig, check_integer, check_number, require
from spectra_jax.model.precision import PRECISIONS
from spectra_jax.training.augment import AugmentConfig


@dataclass(frozen=True)
class TrainingConfig(Section):
    """Everything that a run depends on besides the network and the manifest. The defaults fine-tune."""

    seed: int = 0
    steps: int = 2000
    batch_size: int = 16
    """Clips of one step, over all devices."""
    accumulation: int = 1
    """Parts that a batch is worked on in, one after another, to save memory. Batch norms see a part at a time."""
    pairs: bool = False
    """Half of each batch bona fide: every spoof is drawn with the clip that its column `pair` names, in the same crop
    and augmentation, or with any bona fide clip where it names none."""
    learning_rate: float = 1e-4
    """The largest, of everything after the encoder."""
    encoder_learning_rate: float = 1e-5
    warmup_steps: int = 100
    """Steps in which the learning rates rise from zero; then they fall to zero along a half cosine. In a run with no
    more steps than that, they rise in its first half."""
    weight_decay: float = 1e-4
    clip_norm: float | None = 1.0
    """The global norm to which gradients are clipped."""
    class_weights: Literal["balanced"] | tuple[float, float] = "balanced"
    """Of the cross entropy: (spoof, bona fide), or so that both classes count the same over the training split."""
    freeze: Literal["nothing", "feature_extractor", "encoder"] = "nothing"
    freeze_layers: int = 0
    """Transformer layers that keep their weights, counted from the input; the feature extractor then does as well."""
    filterbank: bool = False
    """Start the first convolution as a bank of band-pass filters, see `filterbank`, where there are no weights to start
    from. Few clips do not teach one: noise for a start, they leave a small network at chance."""
    dropout: float = 1.0
    """What the network's own dropout rates are multiplied by: small networks that start from nothing may need less."""
    precision: str = "float32"
    """What the encoder's products compute in; weights, gradients and the optimiser are float32 (float64 in float64)."""
    remat: bool = False
    """Compute the encoder's layers again in the backward pass rather than keep what they computed."""
    average: float = 0.0
    """Of an exponential moving average of the weights, which then is what is evaluated and exported; 0: none."""
    evaluate_every: int = 200
    """Steps between evaluations of the dev split; after each the state is saved."""
    augment: AugmentConfig = field(default_factory=AugmentConfig)

    @property
    def rising_steps(self) -> int:
        """Steps in which the learning rates rise: `warmup_steps`, or half of a run that has no more than those."""
        return self.warmup_steps if self.warmup_steps < self.steps else self.steps // 2

    def _validate(self) -> None:
        check_integer("training.seed", self.seed, minimum=0)
        for name in ("steps", "batch_size", "accumulation", "evaluate_every"):
            check_integer(f"training.{name}", getattr(self, name))
        for name in ("warmup_steps", "freeze_layers"):
            check_integer(f"training.{name}", getattr(self, name), minimum=0)
        for name in ("learning_rate", "encoder_learning_rate", "weight_decay"):
            check_number(f"training.{name}", getattr(self, name), lambda rate: rate >= 0, "a number of at least 0")
        if self.clip_norm is not None:
            check_number("training.clip_norm", self.clip_norm, lambda norm: norm > 0, "a number above 0, or null")
        check_number("training.dropout", self.dropout, lambda factor: 0 <= factor < 2, "a number from 0 to below 2")
        check_number("training.average", self.average, lambda share: 0 <= share < 1, "a number from 0 to below 1")
        for name in ("pairs", "filterbank", "remat"):
            require(isinstance(getattr(self, name), bool), f"training.{name}", getattr(self, name), "true or false")
        places = ("nothing", "feature_extractor", "encoder")
        require(self.freeze in places, "training.freeze", self.freeze, f"one of {', '.join(places)}")
        require(self.precision in PRECISIONS, "training.precision", self.precision, f"one of {', '.join(PRECISIONS)}")
        require(
            self.batch_size % self.accumulation == 0,
            "training.accumulation",
            self.accumulation,
            f"a divisor of batch_size = {self.batch_size}",
        )
        require(
            not self.pairs or self.batch_size % (2 * self.accumulation) == 0,
            "training.batch_size",
            self.batch_size,
            "a multiple of 2 * accumulation, since pairs are not to be parted",
        )
        if self.class_weights != "balanced":
            rule = '"balanced", or two numbers above 0, of spoof and bona fide'
            both = isinstance(self.class_weights, tuple) and len(self.class_weights) == 2
            require(both, "training.class_weights", self.class_weights, rule)
            for weight in self.class_weights:
                check_number("training.class_weights", weight, lambda weight: weight > 0, rule)


@dataclass(frozen=True)
class RunConfig(Section):
    """A training run's `config.json`: the network (the published one unless said otherwise) and how to train it."""

    model: SpectraConfig = field(default_factory=SpectraConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)

    def _validate(self) -> None:
        frozen, layers = self.training.freeze_layers, self.model.encoder.num_hidden_layers
        require(frozen <= layers, "training.freeze_layers", frozen, f"at most num_hidden_layers = {layers}")

    @classmethod
    def from_json(cls, path: str | Path) -> Self:
        """Read a run's configuration.

        Raises:
          ConfigError: not JSON, an unknown field, or a value that breaks a rule. The message names the file.
          InputError: not there, or not a plain file: a pipe would wait for ever.
          OSError: the file cannot be read.
        """
        require_plain_file(Path(path))
        try:
            values = read_json(path)
        except ValueError as error:
            raise ConfigError(f"{path}: not a JSON file of a run's configuration ({error})") from error
        try:
            return cls.from_dict(values)
        except ConfigError as error:
            raise ConfigError(f"{path}: {error}") from error

    def to_json(self) -> str:
        """The text of a `config.json` with every field written out."""
        return json.dumps(dataclasses.asdict(self), indent=2) + "\n"
