"""``python -m archsim`` is the command ``archsim``."""

import sys


def main() -> int:
    """The command line; Ctrl-C during the imports is an interruption like any other."""
    try:
        from archsim.cli import main

        return main()
    except KeyboardInterrupt:
        sys.stderr.write("archsim: interrupted\n")
        return 130


if __name__ == "__main__":
    sys.exit(main())
