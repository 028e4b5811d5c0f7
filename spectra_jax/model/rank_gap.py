"""The rank gap below which scores cannot be compared.

A graph pool keeps the highest-scoring nodes in the order of their scores, and later layers depend on this order. If the
scores of two neighbours nearly tie, rounding can swap them, and the score of the trial jumps. This is not an error: the
network is discontinuous at a tie, and a wider dtype decides the order. The *smallest rank gap* of a trial is the
smallest difference between neighbours in the rankings of all its pools; it covers the kept nodes and the first one that
is dropped.
"""

GAP_BOUND = 2e-5
"""Below this gap, a float32 ranking is not comparable, where the network's own bound was not measured.

Between float32 and float64 a trial's smallest gap changes by up to 7.4e-6, and that of a single pool by up to 1.4e-5
(400 trials of a tiny network), or by less in other networks, such as 2.2e-7 in the demo:
`spectra_jax.evaluation.near_ties.measure_gap_bound` measures a network's own bound. In bfloat16 gaps change by up to
0.02, which is more than the smallest gap of nearly every trial: no bound can be given for bfloat16 and int8, nor for
TF32.
"""
