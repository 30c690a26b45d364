"""`python -m service` is `robomask serve`."""

import sys

from service.commands.serve import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
