"""`python -m glowgenius`: the command line."""

from __future__ import annotations

from glowgenius.cli import main

if __name__ == "__main__":
    main()
