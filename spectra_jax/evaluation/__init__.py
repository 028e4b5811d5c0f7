"""How good scores are, and whether two systems give the same ones."""
