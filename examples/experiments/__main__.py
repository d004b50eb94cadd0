"""Everything behind the page in one command: what is not recorded yet, then its pictures and its numbers.

It takes the options of `examples.experiments.run`.
"""

from __future__ import annotations

import os
import sys

from examples.experiments import figures, prose, run

if __name__ == "__main__":
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as run.py does
    sys.exit(run.main() or figures.main() or prose.main([]))
