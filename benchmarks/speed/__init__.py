"""How fast the network runs here, and beside PyTorch, ONNX Runtime and OpenVINO: see `benchmarks/speed/__main__.py`.

network.py     the network that is measured, as files: weights, native directory, windows
flops.py       floating-point operations of one clip, from the configuration
contenders.py  one class for each way to run the network: add one here, and it is in every table
oracle.py      the PyTorch network in the forms that suit PyTorch and its exporters
worker.py      one process that holds one contender
measure.py     the parent's side: workers timed in turn, alone, cold
sections.py    what is measured, section by section
render.py      Markdown, terminal table and picture from the results' JSON
"""
