"""How near to a tie is too near to compare scores.

A graph pool keeps the best of its nodes in the order of their scores, and the order decides what meets what afterwards.
Where two neighbours nearly tie, rounding can swap them and the trial's score jumps. Nothing is wrong then: the network
is discontinuous there, and only a wider type decides. A trial's *smallest rank gap* is the smallest difference between
neighbours over all of its pools, the last node kept against the first one dropped included.
"""

GAP_BOUND = 2e-5
"""Below this gap, a float32 ranking is not comparable.

Gaps move by up to 1.04e-5 between float32 and float64 (400 trials of a tiny network, ten pools each), so that one of
twice that cannot close. bfloat16 moves them by up to 0.02, more than the smallest gap of nearly every trial: there is
no bound to state for it, nor for TF32.
"""
