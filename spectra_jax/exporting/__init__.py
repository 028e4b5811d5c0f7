"""Networks as files for programs that need neither this package nor its checkpoints."""
