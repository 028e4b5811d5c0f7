"""From windows of samples to scores: compiled, batched, on any number of devices."""
