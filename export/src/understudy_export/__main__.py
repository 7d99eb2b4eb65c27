"""`python -m understudy_export` is `understudy-export`."""

import sys

from understudy_export.cli import main

sys.exit(main())
