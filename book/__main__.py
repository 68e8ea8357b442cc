"""`python -m book`."""

from book.cli import app

app(prog_name="book")
