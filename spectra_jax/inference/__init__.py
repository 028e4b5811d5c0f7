"""From trials to scores: windows decoded, batched and run by a compiled network on any number of devices."""
