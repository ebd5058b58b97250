"""``python -m edgevand`` is the ``edgevand`` command."""

from __future__ import annotations

import sys

from edgevand.cli import main

if __name__ == "__main__":
    sys.exit(main())
