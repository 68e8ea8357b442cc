"""Random damage to what the commands are given, in a process of its own whose memory is bounded.

``python fuzz_commands.py EXAMPLES SEED FOLDER`` prints one line of JSON: for each command how many
inputs it took (exit code 0), had findings in (1) and refused (2), how far memory grew, and the
faults. A fault is an error that is none of ours, another exit code, more than one line for people,
or anything half-written; ``FOLDER/faults/NUMBER`` holds its input. A crash or a hang ends the
process; ``FOLDER/now`` says at which input.
"""

from __future__ import annotations

import collections
import faulthandler
import json
import os
import resource
import shutil
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from pathlib import Path

import numpy as np
from typer.testing import CliRunner

sys.path.insert(0, str(Path(__file__).with_name("images")))
sys.path.insert(0, str(Path(__file__).with_name("annotation")))

from annotated import disc
from fuzz_series import KINDS as SERIES
from fuzz_series import damaged, resident_mib
from test_fuzz import write_raw

from medlib import cli
from medlib.annotation.drawings import Annotation, LesionMask, SeriesGrid
from medlib.annotation.formats import write_annotation
from medlib.baseline.comparators import predict_threshold
from medlib.baseline.config import train_config
from medlib.baseline.network import build_network, save_weights
from medlib.baseline.run import Run
from medlib.files import write_json
from medlib.images.dicom import read_series, write_series
from medlib.images.image_files import write_mask
from medlib.images.volume import SeriesIdentity, Volume

SECONDS_EACH = 60  # a hang, not a slow machine
MEMORY_BOUND_MIB = 400
ADDRESS_BOUND_MIB = 16384
SHAPE, SPACING_MM = (9, 64, 64), (5.0, 5.0, 5.0)
TAGS = "PatientName ImageType Rows PixelSpacing RescaleSlope SeriesInstanceUID SOPInstanceUID"
TAGS += " ImagePositionPatient SpecificCharacterSet StudyDate BitsStored PatientID SegmentSequence"
TAGS += " ROIContourSequence ReferencedSeriesSequence PixelData NumberOfFrames FrameOfReferenceUID"
TAGS += " TransferSyntaxUID SOPClassUID StructureSetROISequence SegmentationType InstanceNumber"
VALUES = [
    None,
    b"",
    b"0",
    b"-1",
    b"1e308",
    b"nan",
    b"1,5",
    b"A\\B\\C",
    b"Zwiebelfisch",
    b"\xff\xfe",
]
VALUES += [b"\x00\x00", b"\xff\xff\xff\xff", b"1.2.840.10008.5.1.4.1.1.2.1", b"x" * 300]
CELLS = [
    "",
    "nan",
    "-1",
    "0",
    "1e308",
    "9" * 30,
    "../..",
    "x",
    "\u00e9\u738b",
    '"',
    ",",
    "1,5",
    "\0",
]


def chest() -> Volume:
    """A body with two lungs and a lesion in one, so small that it is no work."""
    hu = np.full(SHAPE, -1000.0, np.float32)
    _, y, x = np.indices(SHAPE)
    hu[((y - 32) / 22) ** 2 + ((x - 32) / 28) ** 2 < 1] = 40
    for middle in (20, 44):
        hu[((y - 32) / 15) ** 2 + ((x - middle) / 8) ** 2 < 1] = -850
    hu[lesion()] = 30
    affine = np.diag([SPACING_MM[2], SPACING_MM[1], SPACING_MM[0], 1.0])
    return Volume(hu, affine, SeriesIdentity("P", "1.2.3", "1.2.3.4", "1.2.3.5", "M", "X", "K"))


def lesion() -> np.ndarray:
    return disc((4, 32, 20), 12.0, SHAPE, SPACING_MM)


def drawn(volume: Volume) -> Annotation:
    mask = LesionMask.cut(1, 1, lesion())
    return Annotation.gather(SeriesGrid.of(volume), [mask])


def series(kind: str, folder: Path) -> Path:
    write_series(chest(), folder)
    SERIES[kind](folder)
    archive = folder / "study.zip"
    return archive if archive.exists() else folder


def assist(kind: str, folder: Path) -> list[str]:
    return ["assist", str(series(kind, folder / "ct")), "--out", "OUT"]


def deidentify(kind: str, folder: Path) -> list[str]:
    return ["data", "deidentify", str(series(kind, folder / "ct")), "OUT"]


def convert(way: str, folder: Path) -> list[str]:
    source, to = way.split(" to ")
    write_series(chest(), folder / "ct")
    [volume] = read_series(folder / "ct")
    given = folder / {"table": "a.csv", "nifti": "a.nii.gz"}.get(source, "a.dcm")
    write_annotation(drawn(volume), given, volume, folder / "ct", source)
    out = {"table": "OUT.csv", "nifti": "OUT.nii.gz"}.get(to, "OUT.dcm")
    arguments = ["annotation", "convert", str(given), out, "--series", str(folder / "ct")]
    return [*arguments, "--to", to, "--by", "reader"]


def boxes(to: str, folder: Path) -> list[str]:
    write_series(chest(), folder / "ct")
    mask = folder / "mask.nii.gz"
    write_mask(lesion().astype(np.uint8), chest(), mask)
    return ["data", "convert", str(folder / "ct"), "--mask", str(mask), "--to", to, "--out", "OUT"]


def scans(ending: str, folder: Path) -> list[str]:
    """A folder of whole scans, one with a mask and one with boxes."""
    for case in ("a", "b"):
        _write_ct(folder / case / f"ct{ending}")
    write_mask(lesion().astype(np.uint8), chest(), folder / "a" / "mask.nii.gz")
    box = "slice_index_ascending_z,xmin,xmax,ymin,ymax\n4,18,22,30,34\n"
    (folder / "b" / "boxes.csv").write_text(box)
    (folder / "cases.csv").write_text(
        f"case,licence,image_file,mask_file\na,x,ct{ending},mask.nii.gz\nb,x,ct{ending},boxes.csv\n"
    )
    return ["evaluate", str(folder), "--out", "OUT", "--run", "RUN"]


def windows(ending: str, folder: Path) -> list[str]:
    _write_ct(folder / f"ct{ending}")
    write_mask(3 * lesion().astype(np.uint8), chest(), folder / "readers.nii.gz")
    (folder / "lidc_voi.csv").write_text(
        f"voi_id,patient_id,ct_file,readers_file,n_readers\nv,p,ct{ending},readers.nii.gz,2\n"
    )
    return ["evaluate", str(folder), "--out", "OUT", "--run", "RUN"]


def _write_ct(path: Path) -> None:
    import SimpleITK as sitk  # noqa: N813

    path.parent.mkdir(parents=True, exist_ok=True)
    image = sitk.GetImageFromArray(chest().hu.astype(np.int16))
    image.SetSpacing(SPACING_MM[::-1])
    sitk.WriteImage(image, str(path))


RESEARCH = ("NIfTI", "NRRD", "MetaImage")
ENDINGS = (".nii.gz", ".nii", ".nrrd", ".mha")
FORMATS = ("table", "seg", "rtstruct", "nifti")
WAYS = [f"{a} to {b}" for a in FORMATS for b in FORMATS if a != b]
KINDS: list[tuple[Callable[[str, Path], list[str]], str]] = [
    *((assist, kind) for kind in SERIES),
    *((deidentify, kind) for kind in SERIES if not kind.startswith(RESEARCH)),
    *((convert, way) for way in WAYS),
    *((boxes, to) for to in ("coco", "yolo")),
    *((scans, ending) for ending in ENDINGS),
    *((windows, ending) for ending in ENDINGS),
]


def without_network(folder: Path) -> None:
    """Stand a classical detector in for the network: what is tried is all that is around it."""
    import medlib.baseline.inference as inference
    import medlib.review.model as model
    import medlib.risk.evaluation as evaluation

    config = train_config("quick").model_copy(update={"pretrained": False})
    (folder / "evaluation").mkdir(parents=True)
    (folder / "config.json").write_text(config.model_dump_json())
    save_weights(build_network(config), folder / "weights.safetensors")
    card = {
        "model": {"name": "toy net", "sha256": Run(folder).weights_sha256()},
        "data": {"cohort": "phantom-quick-seed0", "patients": {}},
    }
    write_json(folder / "card.json", card)
    write_json(folder / "evaluation" / "operating_point.json", {"network": 0.3})
    rates = {"lesion_sensitivity": {"value": 0.9}, "lesion_false_negative_rate": {"value": 0.1}}
    write_json(
        folder / "evaluation" / "metrics.json", {"network": {"test": rates, "external": rates}}
    )
    (folder / "evaluation" / "network-candidates.csv").write_text("case_id,split,reported\n")
    loaded = model.load_model(folder)
    model.load_model = lambda _=None: loaded
    inference.predict_volume = lambda _n, _c, volume, **_: predict_threshold(config, volume)
    evaluation.predictor = lambda _: (
        lambda case: predict_threshold(config, case.volume, is_window=case.is_window)
    )
    evaluation._draw = lambda _: lambda case: case.volume.hu > -300


def damage(folder: Path, rng: np.random.Generator) -> None:
    """Damage one file, or with some luck each."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    for path in files if rng.random() < 0.2 else [files[int(rng.integers(len(files)))]]:
        if path.suffix == ".csv" and rng.random() < 0.7:
            lines = [line.split(",") for line in path.read_text().splitlines()]
            line = lines[int(rng.integers(len(lines)))]
            line[int(rng.integers(len(line)))] = str(rng.choice(CELLS))
            path.write_text("\n".join(map(",".join, lines)))
        elif path.suffix == ".dcm" and rng.random() < 0.5:
            value = VALUES[int(rng.integers(len(VALUES)))]
            try:
                write_raw(path, str(rng.choice(TAGS.split())), None, value)
            except Exception:  # not explicit little endian
                path.write_bytes(damaged(path.read_bytes(), rng))
        else:
            path.write_bytes(damaged(path.read_bytes(), rng))


def state(folder: Path) -> dict[Path, tuple[int, int]]:
    stats = ((path, path.stat()) for path in folder.rglob("*") if path.is_file())
    return {path: (stat.st_size, stat.st_mtime_ns) for path, stat in stats}


def fault_of(arguments: list[str], given: Path, place: Path, scratch: Path) -> tuple[int, str]:
    """Run a command in this process; return its exit code, and what is wrong about that."""
    before = state(given)
    done = CliRunner().invoke(cli.app, arguments)
    code = done.exit_code
    if done.exception and not isinstance(done.exception, SystemExit):
        lines = traceback.format_exception(done.exception)
        return code, "".join(lines[-4:]).strip()
    said = [line for line in done.stderr.splitlines() if line.strip()]
    if code not in (0, 1, 2):
        return code, f"exit code {code}"
    if code == 2 and (len(said) != 1 or not said[0].startswith("medlib: ")):
        return code, f"not one line: {done.stderr[-300:]}"
    if not (done.stderr + done.stdout).replace("\n", "").isprintable():
        return code, f"not for people: {said[-1:] or done.stdout[-300:]!r}"
    written = [str(path.relative_to(place)) for path in place.rglob("*")]
    if any("/." in f"/{name}" for name in written):
        return code, f"half-written: {written[:3]}"
    # What evaluate has judged, it keeps to go on from; the summary comes last.
    if code and ("out/metrics.json" in written if arguments[0] == "evaluate" else written):
        return code, f"written in spite of the refusal: {written[:3]}"
    if not code and not written:
        return code, "nothing written"
    if state(given) != before:
        return code, "the input was changed"
    left = [path.name for path in scratch.iterdir() if not path.name.startswith("medlib-locks")]
    return code, f"left behind: {left}" if left else ""


def main(examples: int, seed: int, folder: Path) -> None:
    faulthandler.enable()
    scratch, given, place = folder / "scratch", folder / "in", folder / "out"
    scratch.mkdir(parents=True)
    tempfile.tempdir = str(scratch)
    without_network(folder / "run")
    named = {"OUT": str(place / "out"), "RUN": str(folder / "run")}
    good: list[list[str]] = []
    for number, (command, kind) in enumerate(KINDS):
        command(kind, folder / "good" / str(number))
    for number, (command, kind) in enumerate(KINDS):
        (folder / "now").write_text(f"good {command.__name__} {kind}")
        place.mkdir()
        arguments = command(kind, given)
        shutil.rmtree(given)
        shutil.copytree(folder / "good" / str(number), given)
        good.append([word.replace("OUT", named["OUT"]) if word.startswith("OUT") else
                     named.get(word, word) for word in arguments])  # fmt: skip
        code, fault = fault_of(good[-1], given, place, scratch)
        assert (code, fault) == (0, ""), f"good {command.__name__} {kind}: {code} {fault}"
        shutil.rmtree(given)
        shutil.rmtree(place)
    address = ADDRESS_BOUND_MIB * 2**20
    resource.setrlimit(resource.RLIMIT_AS, (address, resource.RLIM_INFINITY))
    start, slowest, faults = resident_mib(), 0.0, {}
    outcomes: dict[str, collections.Counter[int]] = collections.defaultdict(collections.Counter)
    for number in range(seed, seed + examples):
        which = number % len(KINDS)
        command, kind = KINDS[which]
        shutil.copytree(folder / "good" / str(which), given)
        damage(given, np.random.default_rng(number))
        place.mkdir()
        (folder / "now").write_text(f"{number} {command.__name__} {kind}")
        faulthandler.dump_traceback_later(SECONDS_EACH, exit=True)
        began = time.perf_counter()
        code, fault = fault_of(good[which], given, place, scratch)
        faulthandler.cancel_dump_traceback_later()
        slowest = max(slowest, time.perf_counter() - began)
        outcomes[command.__name__][code] += 1
        if fault:
            faults[f"{number} {command.__name__} {kind}"] = fault
            shutil.copytree(given, folder / "faults" / str(number), dirs_exist_ok=True)
            for left in scratch.iterdir():
                shutil.rmtree(left) if left.is_dir() else left.unlink()
        shutil.rmtree(given)
        shutil.rmtree(place)
    grown = round(resident_mib() - start, 1)
    found = {"examples": examples, "grown_mib": grown, "slowest_s": round(slowest, 2)}
    print(json.dumps({**found, "outcomes": outcomes, "faults": faults}))
    sys.exit(0 if not faults and grown <= MEMORY_BOUND_MIB else 3)


if __name__ == "__main__":
    os.environ["OMP_NUM_THREADS"] = "1"
    main(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]))
