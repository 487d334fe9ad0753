"""`lac serve` that gives nobody redundancy, for comparison: `python -m benchmarks.plain_server serve`."""

from __future__ import annotations

import sys

from lac.cli.main import main
from lac_media.parameters import Variant
from lac_media.rooms.redundancy import RedundancyChooser


def never(*_: object, **__: object) -> Variant:
    return Variant.OPUS


if __name__ == "__main__":
    RedundancyChooser.report = never  # type: ignore[method-assign]  # that is what this server is for
    sys.exit(main(sys.argv[1:]))
