"""The model card: what the weights are for, what they saw, how well they do, where they fail.

Its words stand in `model_card.md.j2`; here are the figures that it asks for.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from scipy.stats import binomtest

from medlib.baseline.enlarged_nodules import ENLARGED, NODULES_MM, VARIED
from medlib.baseline.real_manifest import FILE
from medlib.baseline.run import OUTLINER, Run
from medlib.files import write_file
from medlib.paths import ROOT
from medlib.risk.evaluation_files import FOLDER, HELD_OUT, METRICS_FILE, REAL_SCANS, REAL_VOIS
from medlib.risk.intervals import in_words
from medlib.risk.luna16 import LUNA16, OWN
from medlib.risk.operating_point import ALARM_BAR, FROC_POINTS
from medlib.scope import DISCLAIMER
from studies.repeated_runs import outlines, repeats, unseen_scans

MODEL_CARD = "MODEL_CARD.md"
TEMPLATE = "model_card.md.j2"
N_WORST = 10
LUNA16_POINTS = (*(f"{point:g}" for point in FROC_POINTS), "mean")
MANIFEST = FILE.relative_to(ROOT).as_posix()
CITATIONS = {  # by how the names of a collection's cases begin
    "LIDC-IDRI": "Armato et al., TCIA 2015, doi:10.7937/K9/TCIA.2015.LO9QL9SX",
    "LUNG1": "Aerts et al., TCIA 2019, doi:10.7937/K9/TCIA.2015.PF0M9REI",
    "Lung_Dx": "Li et al., TCIA 2020, doi:10.7937/TCIA.2020.NNC2-0461",
    "pyradiomics": "van Griethuysen et al., Cancer Res 2017, doi:10.1158/0008-5472.CAN-17-0339",
}
LESIONS_OF = {  # in metrics.json: which lesions have to be found
    "luna16": f"{LUNA16.min_readers} readers or more, from {LUNA16.min_diameter_mm:g} mm",
    "luna16_own": f"{OWN.min_readers} readers or more",
}


def model_card(run: Run) -> str:
    """Write the model card of a reference run, in Markdown, from its folder and its repeats.

    The folder holds what `medlib.risk.evaluation.evaluate` found on volumes of interest and on
    whole scans, and the metrics of held-out phantom scans.
    """
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {
        "interval": in_words,
        "number": number,
        "yes_no": lambda value: "yes" if value else "no",
    }
    return environment.get_template(TEMPLATE).render(_figures(run))


def _figures(run: Run) -> dict[str, Any]:
    vois, scans, phantom = (
        json.loads((run.folder / FOLDER / file).read_bytes())
        for file in (REAL_VOIS, REAL_SCANS, METRICS_FILE)
    )
    outliner = Run(run.folder / OUTLINER)
    real = {**run.card["data"]["real_ct"]}
    real["scans"] = {"train": [], "tune": [], "test": [], **real["scans"]}
    real["n_vois"] = {"train": 0, "tune": 0, **real["n_vois"]}
    unseen_nodules = [row for row in vois["cases"] if not row["seen_by_the_run"]]
    with_outline = {row["case"] for row in scans["cases"] if row["outlined"]}
    return {
        "run": run,
        "outliner": outliner,
        "card": run.card,
        "real": real,
        "vois": vois,
        "scans": scans,
        "phantom": phantom,
        "held_out": vois["summary"]["held_out"],
        "disclaimer": DISCLAIMER,
        "manifest": MANIFEST,
        "outlined": [case for case in real["scans"]["train"] if case in with_outline],
        "phantoms_of": _n_phantoms,
        "enlarged_from_mm": NODULES_MM,
        "enlarged_times": [ENLARGED * factor for factor in VARIED],
        "use_of": lambda source: _use(source, real["scans"]),
        "citation_of": _citation,
        "missed": _patients_missed(vois, "missed"),
        "not_reported": _patients_missed(vois, "not_reported"),
        "lesions": _phantom_lesions(run),
        "luna16_points": LUNA16_POINTS,
        "lesions_of": LESIONS_OF,
        "worst": sorted(unseen_nodules, key=lambda row: row["dice"])[:N_WORST],
        "hidden": [row for row in unseen_nodules if row["not_reported"]],
        "minutes": [one.card["time"]["seconds"] / 60 for one in (run, outliner)],
        "alarm_bar": ALARM_BAR,
        **_repeats(run.folder),
    }


def _use(source: str, scans: Mapping[str, list[str]]) -> str:
    """Say which part a source had."""
    parts = [part for part, names in scans.items() if source in names]
    return " and ".join(parts) if parts else "train, tune and test, by patient"


def _citation(source: str) -> str:
    return next((text for name, text in CITATIONS.items() if source.startswith(name)), "")


def _n_phantoms(run: Run) -> int:
    return sum(name.startswith("PHANTOM") for name in run.card["data"]["patients"]["train"])


def patients_with_a_miss(vois: Mapping[str, Any], measure: str = "missed") -> int:
    """Count the patients never seen of whom at least one nodule was missed.

    Parameters
    ----------
    vois : mapping
        What `medlib.risk.evaluation.evaluate` found on volumes of interest.
    measure : str
        ``missed``, with the window centred on the nodule, or ``not_reported``, searched for.
    """
    cases = (case for case in vois["cases"] if not case["seen_by_the_run"])
    return len({case["patient_id"] for case in cases if case[measure]})


def _patients_missed(vois: Mapping[str, Any], measure: str) -> dict[str, Any]:
    """Count them and say what so few leave open: resampled, a share of zero stays zero."""
    n = patients_with_a_miss(vois, measure)
    return {"n": n, "at_most": f"{upper_bound(n, vois['summary']['held_out']['n_patients']):.1%}"}


def upper_bound(k: int, n: int) -> float:
    """Return the largest share that leaves a chance of 5 % to see `k` or fewer in `n`."""
    return float(binomtest(k, n, alternative="less").proportion_ci(0.95, "exact").high)


def _phantom_lesions(run: Run) -> dict[str, Any]:
    """Say what became of the held-out lesions, and whose outlines they have."""
    lesions = pd.read_csv(run.folder / FOLDER / "network-lesions.csv")
    lesions = lesions[lesions["split"].isin(HELD_OUT) & (lesions["status"] == "required")]
    missed = lesions[lesions["missed"] == 1]
    patients = run.card["data"]["patients"]
    learned_from = {*patients["train"], *patients["tune"]}
    known = lesions["origin"].str.split("/").str[0].isin(learned_from)
    hit_of_known, hit_of_others = (
        f"{int(part['hit'].sum())} of {len(part)}" for part in (lesions[known], lesions[~known])
    )
    return {
        "n": len(lesions),
        "missed": len(missed),
        "below": int(missed["matched_candidate"].notna().sum()),
        "hit_of_known": hit_of_known,
        "hit_of_others": hit_of_others,
    }


def _repeats(folder: Path) -> dict[str, Any]:
    """Return what other seeds gave, on nodules and on scans that this run has seen."""
    runs = repeats(folder)
    unseen = unseen_scans(runs)
    tested = {
        run.name: set(Run(run).card["data"]["real_ct"]["scans"].get("test", [])) for run in runs
    }
    missed = unseen[unseen["run"].ne(folder.name) & unseen["hit"].eq(0)]
    return {
        "again": list(outlines(runs).itertuples()) if len(runs) > 1 else [],
        "unseen": list(unseen.itertuples()),
        "missed_by_repeats": [
            {
                "seed": seed,
                "without": ", ".join(sorted(tested[name] - tested[folder.name])),
                "cases": ", ".join(cases),
            }
            for (name, seed), cases in missed.groupby(["run", "seed"])["case"]
        ],
    }


def number(value: float | None) -> str:
    """Write a figure, or that there is none."""
    return "undefined" if value is None or math.isnan(value) else f"{value:.2f}"


def write_model_card(folder: Path) -> Path:
    """Write the card of a run folder, in it."""
    target = folder.resolve() / MODEL_CARD
    write_file(target, model_card(Run(target.parent)))
    return target
