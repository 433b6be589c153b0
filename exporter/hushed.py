"""Keep the start-up chatter of native libraries off the terminal.

TensorFlow and LiteRT write to file descriptor 2 from C++ when they start, whatever
Python's logging or their own environment variables say. What matters of it they
raise as an exception as well.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def hushed() -> Iterator[None]:
    """Drop what is written to standard error inside."""
    sys.stderr.flush()
    kept = os.dup(2)
    sink = os.open(os.devnull, os.O_WRONLY)
    os.dup2(sink, 2)
    os.close(sink)
    try:
        yield
    finally:
        sys.stderr.flush()
        os.dup2(kept, 2)
        os.close(kept)
