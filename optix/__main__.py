"""`python -m optix` is the command `optix`, of this interpreter."""

import sys

from optix.cli import main

if __name__ == "__main__":
    sys.exit(main())
