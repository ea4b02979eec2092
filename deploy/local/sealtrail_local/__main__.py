"""`python -m sealtrail_local broker|registry|store`: one process, in the foreground."""

import sys

from sealtrail.cli.main import run

if __name__ == "__main__":
    sys.exit(run(["local", *sys.argv[1:]]))
