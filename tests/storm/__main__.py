"""`python tests/storm`; see many.py."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from storm.many import main

if __name__ == "__main__":
    sys.exit(main())
