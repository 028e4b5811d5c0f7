"""Commands on a platform that cannot be started: `python platforms.py CORPUS NEW-DIRECTORY`.

In one process: every command asks for the platform again.
"""

import sys

import spectra_jax
from spectra_jax.cli import main

corpus, output = sys.argv[1:]
for words in (
    ["info", "demo"],
    ["score", "--model", "demo", f"{corpus}/eval/june_00.flac"],
    ["train", "--manifest", f"{corpus}/manifest.csv", "--output", output],
):
    sys.argv = ["spectra-jax", *words]
    try:
        main()
    except SystemExit as end:
        print(words[0], end.code, file=sys.stderr)
try:
    spectra_jax.load("demo")
except ValueError as error:
    print(error, file=sys.stderr)
