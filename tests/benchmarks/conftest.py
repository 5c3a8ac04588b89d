"""The benchmarks are no part of the installed package: they are found in the checkout."""

import sys
from pathlib import Path

# Last, so that the package under test is the one that would be imported anyway.
sys.path.append(str(Path(__file__).parents[2]))
