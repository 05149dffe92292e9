"""The ledgers that tests/ledger makes are what is read here by other code."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1] / "ledger"))
