"""Take one training step on all devices. Prints its loss, the gradients' norm and the batch norms' statistics as JSON.

python -m tests.programs.training_step
"""

from __future__ import annotations

import json
import sys

import numpy as np

from tests.training.runs import config
from tests.training.steps import HALVES, take_step

_, state, report = take_step(config(dropout=0.0), *HALVES)
statistics = np.concatenate([np.ravel(state.statistics[path]) for path in sorted(state.statistics)])
json.dump([float(report.loss), float(report.gradient_norm), statistics.tolist()], sys.stdout)
