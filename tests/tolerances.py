"""Every numerical tolerance of the parity tests, with its reason."""

from __future__ import annotations

# |logit - reference's float64 logit|, by what the network computes in.
LOGITS = {
    # Measured 4e-14: sums of a few thousand terms in another order. 1e-9 still is a million times below anything that
    # a wrong formula gives.
    "float64": 1e-9,
    # The reference's own float32 logits are off by up to 4e-5. Holds where the smallest rank gap is above RANK_GAP.
    "float32": 1e-4,
}

# Below this, float32 can rank two nodes either way, and the score jumps: gaps move by up to 5e-6 under rounding.
RANK_GAP = 2e-5

# A stage's root mean square error as a share of the stage's own root mean square.
STAGE_RMS = {
    # The golden stages are rounded to float32, which is all that is left of a difference.
    "float64": 6e-8,
    # Measured at most 2.6e-5.
    "float32": 1e-4,
}

# A stage's largest error as a share of the stage's root mean square. In float32 the reference itself reaches 1.6e-4
# (`branch1.0` of the tiny network), so this bound cannot be 1e-4; three times that leaves room for another order of
# summation and none for another formula.
STAGE_MAX = {"float64": 1e-6, "float32": 5e-4}
