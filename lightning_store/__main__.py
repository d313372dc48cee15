"""Makes `python -m lightning_store` the command `lightning-store`."""

import sys

from lightning_store.cli import main

if __name__ == "__main__":
    sys.exit(main())
