"""Keep the start-up chatter of native libraries off the terminal.

TensorFlow and LiteRT write to file descriptor 2 from C++ when they start, whatever
Python's logging or their own environment variables say.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def hushed() -> Iterator[None]:
    """Collect what is written to standard error; give it back only if an exception passes."""
    sys.stderr.flush()
    kept = os.dup(2)
    with tempfile.TemporaryFile() as sink:
        os.dup2(sink.fileno(), 2)
        failed = True
        try:
            yield
            failed = False
        finally:
            sys.stderr.flush()
            os.dup2(kept, 2)
            os.close(kept)
            if failed:
                sink.seek(0)
                os.write(2, sink.read())
