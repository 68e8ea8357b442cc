"""What libraries in C write to standard error, and say nowhere else."""

from __future__ import annotations

import os
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO

_ONE_AT_A_TIME = threading.Lock()


@contextmanager
def complaints_held() -> Iterator[IO[bytes]]:
    """Yield a file that gets what is written to standard error meanwhile, open after that, too.

    The file descriptor belongs to the whole process, so one thread at a time.
    """
    with _ONE_AT_A_TIME, tempfile.TemporaryFile() as complaints:
        sys.stderr.flush()
        kept = os.dup(2)
        os.dup2(complaints.fileno(), 2)
        try:
            yield complaints
        finally:
            os.dup2(kept, 2)
            os.close(kept)
