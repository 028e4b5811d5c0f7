"""From the name of a model to its weights in a network."""
