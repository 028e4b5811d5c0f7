"""The network's speed on one GPU, beside PyTorch: `python -m benchmarks.speed gpu`.

plan.py      what is measured, in order of importance, and the type of a result
run.py       the parent, which never uses the GPU: one worker after the other, and the JSON
worker.py    one process, one section
timing.py    runs of many calls with one synchronisation
ours.py      the sections of spectra-jax
peers.py     the sections of PyTorch
training.py  the section of training steps, of both
cold.py      the section of cold starts, of both
render.py    tables and the Markdown report, from the JSON
"""
