"""The program `trio-mcast`, also `python -m trio_mcast`."""

from __future__ import annotations

import sys
from collections.abc import Sequence

_NEEDED = ("cyclopts", "rich")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
      arguments: what was typed after the program's name; None: `sys.argv`

    Returns:
      The exit code: 0 done, 1 nothing received or a finding, 2 wrong usage.
    """
    try:
        # Late, so that a library without its extra can say what is missing.
        from ._cli.app import run

        return run(sys.argv[1:] if arguments is None else arguments)
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in _NEEDED:
            raise
        print(
            f"trio-mcast: the command line needs {error.name}: pip install 'trio-mcast[cli]'",
            file=sys.stderr,
        )
        return 2
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
