"""Fetch a model in a fresh process, which imports the Hub client by the fetch and not before."""

import sys

from spectra_jax import hub

assert "huggingface_hub" not in sys.modules
fetched = hub.fetch_model(sys.argv[1])
sys.stdout.write(f"{fetched.sha256} {fetched.weights}\n")
