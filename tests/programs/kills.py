"""Kill, damage and start runs many times, and print how often each outcome occurred.

python -m tests.programs.kills [--random 50] [--aimed 20] [--rounds 50] [--every 1]
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from tests.programs.runs import Campaign


def main() -> None:
    parser = argparse.ArgumentParser()
    for name, value in {"random": 50, "aimed": 20, "rounds": 50, "every": 1}.items():
        parser.add_argument(f"--{name}", type=int, default=value)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as root:
        kills, flips = Campaign(Path(root, "kills")), Campaign(Path(root, "flips"), number=8)
        for what, counts in (
            ("kills at random moments", kills.random_kills(given.random)),
            ("aimed kills", kills.aimed_kills(given.aimed)),
            ("16 starters at once", kills.starters(16, given.rounds)),
            ("one flipped bit", flips.flips(given.every)),
        ):
            print(f"{what}: {dict(counts)}")


if __name__ == "__main__":
    main()
