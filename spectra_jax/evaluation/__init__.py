"""How good a system's scores are, and whether two systems' scores agree: computed here, printed by `reporting`.

metrics/       pure functions of scores: error rates, costs, bootstrap intervals, calibrations
matching.py    the rows of two files that have the same utterance id
evaluate.py    one system's scores and labels -> an `Evaluation`
near_ties.py   whether near ties can explain the differences of two systems
spoof_only.py  scores of a dataset without bona fide trials, and a threshold -> a `SpoofOnlyEvaluation`
tandem.py      an `Evaluation` and the scores of speaker verification -> a `TandemEvaluation`
compare.py     two systems' scores -> a `Comparison`
calibrate.py   a development set's scores and labels -> a calibration
"""
