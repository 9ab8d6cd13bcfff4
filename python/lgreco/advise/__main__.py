"""`python -m lgreco.advise`, for torchrun: the command `lgreco advise`."""

import sys

from lgreco.cli import main

if __name__ == "__main__":
    sys.argv.insert(1, "advise")
    main()
