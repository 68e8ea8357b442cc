"""Random damage to the bytes of series, in a process of its own whose memory is bounded.

``python fuzz_series.py EXAMPLES SEED FOLDER`` prints one line of JSON: how many inputs were read
and refused, by error, and how far memory grew. A crash, a hang, an error of another kind or output
left behind ends it with another exit code; ``FOLDER/now`` says at which input, and ``FOLDER/in``
holds it.
"""

from __future__ import annotations

import collections
import faulthandler
import json
import resource
import shutil
import sys
import tempfile
import time
from pathlib import Path

import nibabel
import numpy as np
import SimpleITK as sitk  # noqa: N813
from pydicom.uid import ImplicitVRLittleEndian, JPEG2000Lossless, JPEGLSLossless, RLELossless

sys.path.insert(0, str(Path(__file__).parent))

from series_tools import compress, files_of, multi_frame, rewrite, zipped

from medlib.errors import MedlibError
from medlib.images.dicom import read_series, write_series
from medlib.images.image_grids import LPS_TO_RAS
from medlib.images.volume import SeriesIdentity, Volume

SECONDS_EACH = 20  # a hang, not a slow machine
MEMORY_BOUND_MIB = 256  # resident, beyond what the first good reading of every kind has taken
ADDRESS_BOUND_MIB = 8192
SHAPE = (3, 40, 48)

KINDS = {
    "native": lambda f: None,
    "implicit": lambda f: rewrite(f, ImplicitVRLittleEndian),
    "multi-frame": multi_frame,
    "RLE": lambda f: compress(f, RLELossless),
    "JPEG-LS": lambda f: compress(f, JPEGLSLossless),
    "JPEG 2000": lambda f: compress(f, JPEG2000Lossless),
    "JPEG lossless": lambda f: compress(f, "1.2.840.10008.1.2.4.70"),
    "multi-frame JPEG-LS": lambda f: multi_frame(f, compress_to=JPEGLSLossless),
    "zip": zipped,
    "NIfTI": lambda f: _research(f, "ct.nii"),
    "NIfTI gzip": lambda f: _research(f, "ct.nii.gz"),
    "NRRD": lambda f: _research(f, "ct.nrrd"),
    "MetaImage": lambda f: _research(f, "ct.mha"),
}


def small_volume() -> Volume:
    hu = np.random.default_rng(5).integers(-1024, 1000, SHAPE).astype(np.float32)
    identity = SeriesIdentity("P", "1.2.3", "1.2.3.4", "1.2.3.5", "M", "X", "K")
    return Volume(hu, np.diag([0.7, 0.75, 2.5, 1.0]), identity)


def _research(folder: Path, name: str) -> None:
    volume = small_volume()
    for path in files_of(folder):
        path.unlink()
    values = volume.hu.astype(np.int16)
    if name.endswith((".nrrd", ".mha")):
        sitk.WriteImage(sitk.GetImageFromArray(values), str(folder / name))
    else:
        affine = LPS_TO_RAS @ volume.affine
        nibabel.save(nibabel.Nifti1Image(values.transpose(2, 1, 0), affine), folder / name)


def damaged(raw: bytes, rng: np.random.Generator) -> bytes:
    """Flip, cut, overwrite, repeat or insert, more often near the start: headers stand there."""
    data = bytearray(raw)
    for _ in range(int(rng.integers(1, 5))):
        if not data:
            break
        end = min(len(data), 2500) if rng.random() < 0.6 else len(data)
        at = int(rng.integers(0, end))
        kind = rng.integers(0, 7)
        if kind <= 1:
            data[at] ^= 1 << int(rng.integers(0, 8))
        elif kind == 2:
            data[at] = int(rng.integers(0, 256))
        elif kind == 3:
            del data[at if rng.random() < 0.3 else len(data) - int(rng.integers(0, 200)) :]
        elif kind == 4:
            large = rng.choice([0xFFFFFFFF, 0x7FFFFFFF, 0xFFFF, 0, 0x10000000])
            data[at : at + 4] = int(large).to_bytes(4, "little")
        elif kind == 5:
            data[at:at] = rng.bytes(int(rng.integers(1, 40)))
        else:
            length = int(rng.integers(1, 60))
            data[at : at + length] = data[: min(length, len(data))]
    return bytes(data)


def make_inputs(folder: Path) -> dict[str, Path]:
    inputs = {}
    for kind, change in KINDS.items():
        inputs[kind] = folder / kind
        write_series(small_volume(), inputs[kind])
        change(inputs[kind])
    return inputs


def given(folder: Path) -> Path:
    """Return what a user would name: an archive by itself, else the folder."""
    archive = folder / "study.zip"
    return archive if archive.exists() else folder


def resident_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main(examples: int, seed: int, folder: Path) -> None:
    faulthandler.enable()
    inputs = make_inputs(folder / "good")
    scratch = folder / "scratch"
    scratch.mkdir()
    tempfile.tempdir = str(scratch)
    for good in inputs.values():
        read_series(given(good))
    address = ADDRESS_BOUND_MIB * 2**20
    resource.setrlimit(resource.RLIMIT_AS, (address, resource.RLIM_INFINITY))
    start, slowest = resident_mib(), 0.0
    outcomes: collections.Counter[str] = collections.Counter()
    lines: set[str] = set()
    for number in range(seed, seed + examples):
        rng = np.random.default_rng(number)
        kind = list(inputs)[number % len(inputs)]
        target = shutil.copytree(inputs[kind], folder / "in")
        files = sorted(path for path in target.iterdir())
        for path in files if rng.random() < 0.3 else [files[int(rng.integers(len(files)))]]:
            path.write_bytes(damaged(path.read_bytes(), rng))
        (folder / "now").write_text(f"{number} {kind}")
        faulthandler.dump_traceback_later(SECONDS_EACH, exit=True)
        began = time.perf_counter()
        try:
            volumes = read_series(given(target))
            assert volumes
            assert all(np.isfinite(volume.hu).all() for volume in volumes)
            outcomes["read"] += 1
        except MedlibError as error:
            outcomes[type(error).__name__] += 1
            lines.add(str(error))
        faulthandler.cancel_dump_traceback_later()
        slowest = max(slowest, time.perf_counter() - began)
        assert not list(scratch.iterdir()), "an unpacked archive was left behind"
        assert sorted(target.iterdir()) == files, "something was written into the input"
        shutil.rmtree(target)
    assert [line for line in lines if not line.isprintable()] == []
    grown = resident_mib() - start
    print(
        json.dumps(
            {
                "examples": examples,
                "grown_mib": round(grown, 1),
                "slowest_s": round(slowest, 2),
                "outcomes": dict(outcomes.most_common()),
            }
        )
    )
    sys.exit(0 if grown <= MEMORY_BOUND_MIB else 3)


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]))
