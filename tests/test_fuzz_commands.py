"""No input makes a command end in a traceback, in two lines, or leave something half-written."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

FUZZ = Path(__file__).with_name("fuzz_commands.py")
EXAMPLES = "MEDLIB_FUZZ"  # how many inputs; a release takes 2000
SECONDS_EACH = 10


def test_damaged_inputs_of_every_command(tmp_path):
    examples = int(os.environ.get(EXAMPLES, "200"))
    done = subprocess.run(
        [sys.executable, FUZZ, str(examples), "0", tmp_path],
        capture_output=True,
        text=True,
        timeout=120 + SECONDS_EACH * examples,
    )
    now = (tmp_path / "now").read_text()
    assert done.stdout, f"at input {now}: {done.stderr[-2000:]}"
    found = json.loads(done.stdout)
    assert found["faults"] == {}
    assert done.returncode == 0, f"memory grew by {found['grown_mib']} MiB"
    assert done.stderr == "", "libraries keep quiet: what they say is in the error"
    assert set(found["outcomes"]) == {
        "assist", "deidentify", "convert", "boxes", "scans", "windows",
    }  # fmt: skip
    taken, refused = (
        sum(codes.get(code, 0) for codes in found["outcomes"].values()) for code in ("0", "2")
    )
    assert taken + refused == examples
    assert refused > examples / 4, "damage that does none proves nothing"
    assert taken > examples / 10
