"""``python -m vfe_fast.bench``: the short run."""

import sys

from .run import main

sys.exit(main(sys.argv[1:]))
