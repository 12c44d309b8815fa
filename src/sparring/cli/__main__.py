"""``python -m sparring.cli``: what ``accelerate launch -m sparring.cli train ...`` starts."""

import sys

from sparring.cli import main

if __name__ == "__main__":
    sys.exit(main())
