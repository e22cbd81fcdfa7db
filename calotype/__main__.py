"""`python -m calotype`"""

import sys

from calotype.cli import main

if __name__ == "__main__":
    sys.exit(main())
