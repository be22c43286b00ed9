"""``python -m archsim`` is the command ``archsim``."""

import sys

from archsim.cli import main

sys.exit(main())
