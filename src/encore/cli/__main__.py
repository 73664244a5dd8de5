"""`python -m encore.cli` is `encore`."""

import sys

from encore.cli import main

sys.exit(main())
