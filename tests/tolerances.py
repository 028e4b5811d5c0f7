"""Every numerical tolerance of the parity tests, with its reason."""

from __future__ import annotations

# |logit - reference's float64 logit|, by the precision of the network.
LOGITS = {
    # Measured 4e-14: sums of a few thousand terms in another order. 1e-9 is a million times smaller than the effect of
    # any wrong formula.
    "float64": 1e-9,
    # The float32 logits of the reference differ by up to 4e-5. Valid if the smallest rank gap is above RANK_GAP.
    "float32": 1e-4,
}

# Below this gap, float32 may swap two nodes, and the score jumps: rounding changes gaps by up to 5e-6.
RANK_GAP = 2e-5

# A stage's root mean square error as a share of the stage's own root mean square.
STAGE_RMS = {
    # The golden stages are rounded to float32; no other difference remains.
    "float64": 6e-8,
    # Measured at most 2.6e-5.
    "float32": 1e-4,
}

# A stage's largest error as a share of the stage's root mean square. In float32 the reference itself reaches 1.6e-4
# (`branch1.0` of the tiny network), so the bound cannot be 1e-4. Three times the measured error allows another order of
# summation, but no other formula.
STAGE_MAX = {"float64": 1e-6, "float32": 5e-4}

# As STAGE_RMS, for the stages up to the first graph pool, with narrow operands in the encoder. After that a pool may
# rank two nodes the other way round, and errors have no bound. Each is three times what rounding to the nearest of the
# operands alone leaves on a CPU: 1.1e-3 for float16, 9e-3 for bfloat16. TF32 has float16's ten bits, which a GPU may
# also get by cutting off the others, for twice the error.
NARROW_STAGE_RMS = {"tf32": 6e-3, "float16": 3e-3, "bfloat16": 3e-2}
