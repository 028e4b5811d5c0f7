"""The network's speed compared with PyTorch, ONNX Runtime and OpenVINO: see `benchmarks/speed/__main__.py`.

network.py     the measured network, as files: weights, native directory, windows
flops.py       floating-point operations of one clip, from the configuration
contenders.py  one class for each way to run the network: one that is added here is in every table
oracle.py      the PyTorch network in the forms that suit PyTorch and its exporters
worker.py      one process that runs one contender
measure.py     the parent's side: workers timed in turn and alone
cold.py        fresh processes to their first score
peak.py        large matrix products by every library: the machine's peak
probes.py      what is measured of spectra-jax alone
machine.py     the machine and its packages
sections.py    what is measured, section by section
results.py     one results file: what each run measured on a machine, and how runs are merged
render.py      Markdown, terminal tables and picture from one results file
pages.py       the documentation's pages from all results files
"""
