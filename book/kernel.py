"""The surroundings every chapter's kernel runs in, the same on each machine."""

from __future__ import annotations

from book.evidence import CHAPTER
from book.pages import Book, Page


def kernel_environment(book: Book, page: Page) -> dict[str, str]:
    """Return the environment variables that a chapter's kernel gets."""
    return {
        "MEDLIB_ROOT": str(book.root),
        CHAPTER: page.name,
        "IPYTHONDIR": str(book.build / "ipython"),  # no start-up files of the user
        "MPLBACKEND": "module://matplotlib_inline.backend_inline",
        "NO_ALBUMENTATIONS_UPDATE": "1",
        # A waiting thread looks a thousand times, then sleeps: endless looking loses to a busy
        # neighbour, sleeping at once costs a quarter of the speed.
        "GOMP_SPINCOUNT": "1000",
        "PYTHONHASHSEED": "0",
        "PYTHONWARNINGS": "ignore::DeprecationWarning,ignore::FutureWarning",
    }
