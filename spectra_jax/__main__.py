"""`python -m spectra_jax`: the command line."""

from spectra_jax.cli import main

if __name__ == "__main__":
    main()
