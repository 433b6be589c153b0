"""Import and use coremltools without what it drags in and without its chatter.

coremltools imports TensorFlow, torch and scikit-learn wherever they are installed,
only to convert models of those libraries: 6 to 10 seconds that nothing here needs,
because our programs are built with its MIL builder.
"""

from __future__ import annotations

import gc
import importlib
import importlib.util
import logging
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partialmethod
from typing import Any

from models.errors import MissingExtraError

UNUSED = ("tensorflow", "torch", "torchvision", "torchaudio", "torchao", "sklearn", "xgboost",
          "libsvm", "executorch")  # fmt: skip


def import_coremltools(purpose: str) -> Any:
    """Return the coremltools module.

    The first import of a process takes about a second. From then on coremltools
    believes that the libraries in `UNUSED` which had not been imported before it
    are not installed: `coremltools.convert` of a torch module fails in such a
    process. Import coremltools by yourself first where that is wanted.

    Args:
        purpose: what it is wanted for, for the error message.

    Raises:
        MissingExtraError: coremltools is not installed.
    """
    if sys.modules.get("coremltools") is not None:
        return sys.modules["coremltools"]
    if importlib.util.find_spec("coremltools") is None:
        raise MissingExtraError("coremltools", "coreml", purpose)
    with quiet(), pretend_missing(UNUSED):
        return importlib.import_module("coremltools")


@contextmanager
def pretend_missing(names: tuple[str, ...]) -> Iterator[None]:
    """Make `import name` raise ImportError inside; modules already imported stay as they are.

    None in `sys.modules` is Python's own way to say so. It holds for all threads,
    so nothing else should be importing meanwhile.
    """
    hidden = [name for name in names if name not in sys.modules]
    sys.modules.update(dict.fromkeys(hidden))  # type: ignore[arg-type]
    try:
        yield
    finally:
        for name in hidden:
            if sys.modules.get(name) is None:
                sys.modules.pop(name, None)


@contextmanager
def quiet() -> Iterator[None]:
    """No warnings, no log lines below ERROR and no progress bars of coremltools inside.

    Off a Mac it says eight times that Apple's libraries did not load. Exceptions
    pass through as they are. Objects made before are kept out of the garbage
    collection that every conversion forces: with torch loaded it takes a second.
    """
    import tqdm  # type: ignore[import-untyped]

    logger = logging.getLogger("coremltools")
    level = logger.level
    start = vars(tqdm.tqdm)["__init__"]  # as it stands there, a descriptor
    logger.setLevel(logging.ERROR)
    tqdm.tqdm.__init__ = partialmethod(start, disable=True)
    gc.freeze()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        gc.unfreeze()
        tqdm.tqdm.__init__ = start
        logger.setLevel(level)
