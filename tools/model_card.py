"""The model card: what the weights are for, what they saw, how well they do, where they fail.

    python -m tools.model_card RUN

writes it anew from the evidence in a run folder and from the repeats beside it.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pandas as pd
from scipy.stats import binomtest

from medlib.baseline.enlarged_nodules import ENLARGED, NODULES_MM, VARIED
from medlib.baseline.real_manifest import FILE
from medlib.baseline.run import OUTLINER, Run
from medlib.paths import ROOT
from medlib.risk.bootstrap import in_words
from medlib.risk.evaluation import FOLDER, HELD_OUT, METRICS_FILE, REAL_SCANS, REAL_VOIS
from medlib.risk.luna16 import LUNA16, OWN
from medlib.risk.operating_point import ALARM_BAR, FROC_POINTS
from medlib.scope import DISCLAIMER
from studies.repeated_runs import outlines, repeats, unseen_scans

MODEL_CARD = "MODEL_CARD.md"
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


def model_card(run: Run, name: str | None = None) -> str:
    """Write the model card of a reference run, in Markdown, from the evidence in its folder.

    Parameters
    ----------
    run : Run
        With what `medlib.risk.real.evaluate` found on volumes of interest and on whole scans, and
        the metrics of held-out phantom scans.
    name : str, optional
        Of the run, where its folder has another one still.
    """
    vois, scans, phantom_metrics = (
        json.loads((run.folder / FOLDER / file).read_bytes())
        for file in (REAL_VOIS, REAL_SCANS, METRICS_FILE)
    )
    card = run.card
    phantom = phantom_metrics["network"]
    times = [card["time"]["seconds"], Run(run.folder / OUTLINER).card["time"]["seconds"]]
    data_of_run = card["data"]
    data, held_out = data_of_run["real_ct"], vois["summary"]["held_out"]
    lines = [
        f"# Model card: {name or run.folder.name}",
        "",
        f"Two networks, {card['model']['name']} each, of "
        f"{card['model']['parameters'] / 1e6:.1f} million parameters, half precision: one searches "
        "whole slices, the other outlines what is found in a window around it; a mass too wide for "
        "that keeps the outline of the search, on a coarse grid and without a second look. SHA-256 "
        f"of both together: `{card['model']['sha256']}`.",
        "",
        "## Intended use",
        "",
        f"{DISCLAIMER} It marks places in a chest CT where a lung nodule or mass may be, for a "
        "radiologist to look at. Not for children, not for other organs, not for a decision "
        "without a human, and not as a proof that a lung is free of lesions.",
        "",
        "## Training data",
        "",
        f"- LIDC-IDRI volumes of interest (CC BY 3.0): {data['n_vois'].get('train', 0)} of the "
        "train part, less those that hold other annotated nodules. The search was asked for "
        "what more than half of the readers marked, the outlines for the share that marked it.",
        f"- Whole scans: {', '.join(data['scans'].get('train', []))}, their background and, where "
        f"it is outlined ({', '.join(_outlined(scans, data)) or 'none'}), the tumour; to "
        f"watch the training: {', '.join(data['scans'].get('tune', []))}.",
        f"- The phantom {card['data']['phantom']} (synthetic anatomy), {_n_phantoms(run, 'train')} "
        f"patients for the search and {_n_phantoms(Run(run.folder / OUTLINER), 'train')} for the "
        "outlines, background and lesions. The lesions have outlines of LIDC patients of the train "
        "part, those above and others; all other lesions are left out of the loss.",
        *_masses_in_words(run),
        "- LUNG1 cases (CC BY-NC 3.0) are for testing alone; the code refuses to train on them.",
        f"- Split by patient: `{data['split']}`. Files, each with its checksum: "
        f"`{MANIFEST}`, together SHA-256 `{data['sha256']}`.",
        "- The encoders began from ImageNet weights of EfficientNet-Lite0 (Apache-2.0).",
        "- The weights of this run are under Apache-2.0, as the project is; the data keep the "
        "licences below, which ask to be named.",
        "",
        "| Data | Licence | Used for | Cite |",
        "|---|---|---|---|",
        *(
            f"| {source} | {licence} | {_use(source, data)} | {_citation(source)} |"
            for source, licence in data["licences"].items()
        ),
        "",
        "## Held-out real nodules",
        "",
        f"{held_out['n_cases']} volumes of interest of {held_out['n_patients']} patients that the "
        f"run has never seen. Reference: {vois['reference']}. The windows are centred on a nodule, "
        "which gives the place away: this measures outlines, not search; the last measure alone "
        "searches, and in a block that ends with its nodule. Nodules that fewer than three readers "
        "drew are not among them. They have been looked at before: runs made earlier and other "
        "rules of close look and score were judged on them, though each choice was made on train "
        "and tune patients.",
        "",
        "| Measure | Value and 95 % interval | Over |",
        "|---|---|---|",
        *(
            f"| {words} | {in_words(held_out[metric])} | {held_out[metric]['n']} patients |"
            for metric, words in vois["metrics"].items()
        ),
        "",
        _missed_in_words(vois),
        "",
        "| Part of the split | Nodules | Dice | Missed | Not reported |",
        "|---|---|---|---|---|",
        *(
            f"| {part} | {found['n_cases']} | {in_words(found['dice'])} | "
            f"{in_words(found['missed'])} | {in_words(found['not_reported'])} |"
            for part, found in held_out["by_split"].items()
        ),
        "",
        "| Diameter, mm | Nodules | Dice | Model, left out | Reader, left out | Missed | "
        "Not reported |",
        "|---|---|---|---|---|---|---|",
        *(
            f"| {row['diameter_mm']} | {row['n']} | {number(row['dice'])} | "
            f"{number(row['model_dice_left_out'])} | {number(row['reader_dice_left_out'])} | "
            f"{row['missed']} | {row['not_reported']} |"
            for row in held_out["by_size"]
        ),
        "",
        "## Whole real scans",
        "",
        f"Times on {card['environment']['device']}, whatever else ran beside.",
        "",
        "| Scan | Seen by training | Tumour hit | False alarms | Tumour marked | Dice | Time, s |",
        "|---|---|---|---|---|---|---|",
        *(
            f"| {row['case']} | {'yes' if row['seen_by_the_run'] else 'no'} | "
            f"{'yes' if row['hit'] else 'no'} | {row['false_alarms']} | "
            f"{number(row['tumour_share'])} | {number(row['dice'])} | {row['seconds']:.0f} |"
            for row in scans["cases"]
        ),
        "",
        "The search for masses from afar was added, how much of a mass has to be seen without it "
        "was set, and nodules were enlarged to masses, when earlier results on the LUNG1 scans "
        "were known: they show that it works, and are no longer a test of it.",
        "",
        *_again(run.folder),
        "## Held-out phantom scans",
        "",
        "| Part | Lesions hit | False alarms a scan |",
        "|---|---|---|",
        *(
            f"| {part} | {in_words(found['lesion_sensitivity'])} | "
            f"{in_words(found['false_alarms_per_scan'])} |"
            for part, found in phantom.items()
        ),
        "",
        _phantom_in_words(run),
        "",
        "By the hit rule of LUNA16 (the centre within the radius), at so many false alarms a "
        "scan; intervals over patients. LUNA16 asks for what three readers drew, from 3 mm; this "
        "project for what two drew.",
        "",
        "| Part, lesions | " + " | ".join(LUNA16_POINTS) + " |",
        "|---" * (len(LUNA16_POINTS) + 1) + "|",
        *(
            f"| {part}, {drawn_by} | "
            + " | ".join(in_words(found[point]) for point in LUNA16_POINTS)
            + " |"
            for rule, drawn_by in LESIONS_OF.items()
            for part, found in phantom_metrics[rule].items()
        ),
        "",
        "## Failures",
        "",
        f"The {N_WORST} held-out nodules with the lowest Dice:",
        "",
        "| Volume | Diameter, mm | Readers | Dice | Reader, left out | Missed | False alarms |",
        "|---|---|---|---|---|---|---|",
        *(
            f"| {row['voi_id']} | {row['diameter_mm']:.1f} | {row['n_readers']} | "
            f"{number(row['dice'])} | {number(row['reader_dice_left_out'])} | "
            f"{'yes' if row['missed'] else 'no'} | {row['false_alarms']} |"
            for row in sorted(
                (row for row in vois["cases"] if not row["seen_by_the_run"]),
                key=lambda row: row["dice"],
            )[:N_WORST]
        ),
        "",
        "Held-out nodules that are not reported at the operating point: "
        f"{', '.join(_not_reported(vois)) or 'none'}.",
        "",
        "## Limits",
        "",
        f"- Trained for {times[0] / 60:.0f} minutes (search) and {times[1] / 60:.0f} (outlines; "
        f"{card['environment']['device']}); few whole real scans were seen, so false alarms on "
        "other scanners, slice distances and diseases are not known.",
        f"- The operating point is {card['metric']['operating_point_rule']}: "
        f"{data['n_vois'].get('tune', 0)} nodules, which also chose level and weights of the "
        "outlines. A block cut around a nodule is easier than a scan, and no rule bounds the false "
        f"alarms: the bar of {ALARM_BAR} a scan, set before, is held against the table above. This "
        "rule replaced another one, the score got its roundness, and the search its punishment for "
        "false alarms and its longer training (both chosen on the tune part), when earlier results "
        "on the LUNG1 scans, the held-out nodules and the phantom were known.",
        "- What is not round scores lower: nodules on pleura, fissure or vessel, and the more so "
        "the thicker the slices.",
        *(
            ()
            if data_of_run["outlines_saw_the_phantom"]
            else (
                "- The outlines were learned on real CT alone; the textures of the phantom they do "
                "not know.",
            )
        ),
        "- Masses far larger than LIDC nodules, and lesions outside the lung field, may be missed "
        "or marked in part. What is known of masses comes from few outlines "
        f"({', '.join(_outlined(scans, data)) or 'none'})"
        f"{' and from nodules enlarged to masses' if run.config.mass_crops else ''}."
        f"{_missed_by_repeats(run.folder)}",
        "- The patients of LIDC-IDRI were collected in the United States, two decades ago.",
        "",
    ]
    return "\n".join(lines)


def _use(source: str, data: Mapping[str, Any]) -> str:
    """Say which part a source had."""
    parts = [part for part, names in data["scans"].items() if source in names]
    return " and ".join(parts) if parts else "train, tune and test, by patient"


def _citation(source: str) -> str:
    return next((text for name, text in CITATIONS.items() if source.startswith(name)), "")


def _masses_in_words(run: Run) -> list[str]:
    """Say what stands in for masses in the training, if anything does."""
    if not run.config.mass_crops:
        return []
    smallest, largest = NODULES_MM
    least, most = (ENLARGED * factor for factor in VARIED)
    return [
        f"- Masses, for the search from afar: soft nodules of the LIDC train part of {smallest:g} "
        f"to {largest:g} mm, enlarged {least:g} to {most:g} times and set into the lungs of those "
        "scans and of the phantom patients."
    ]


def _outlined(scans: Mapping[str, Any], data: Mapping[str, Any]) -> list[str]:
    """Name the scans of the train part whose tumour is outlined."""
    outlined = {row["case"] for row in scans["cases"] if row["outlined"]}
    return [case for case in data["scans"].get("train", []) if case in outlined]


def patients_with_a_miss(vois: Mapping[str, Any], measure: str = "missed") -> int:
    """Count the patients never seen of whom at least one nodule was missed.

    Parameters
    ----------
    vois : mapping
        What `medlib.risk.real.evaluate` found on volumes of interest.
    measure : str
        ``missed``, with the window centred on the nodule, or ``not_reported``, searched for.
    """
    cases = (case for case in vois["cases"] if not case["seen_by_the_run"])
    return len({case["patient_id"] for case in cases if case[measure]})


def _not_reported(vois: Mapping[str, Any]) -> list[str]:
    return [
        f"{case['voi_id']} ({case['diameter_mm']:.1f} mm)"
        for case in vois["cases"]
        if case["not_reported"] and not case["seen_by_the_run"]
    ]


def _missed_in_words(vois: Mapping[str, Any]) -> str:
    """Say what so few misses leave open: resampled, a share of zero stays zero."""
    held_out = vois["summary"]["held_out"]
    n, n_missed = held_out["n_patients"], patients_with_a_miss(vois)
    n_hidden = patients_with_a_miss(vois, "not_reported")
    return (
        f"With the window centred on it, a nodule was missed in {n_missed} of {n} patients; the "
        f"share of such patients may be up to {upper_bound(n_missed, n):.1%} (exact, one-sided "
        f"95 %). Searched for, a nodule was not reported in {n_hidden} of {n} patients (up to "
        f"{upper_bound(n_hidden, n):.1%})."
    )


def upper_bound(k: int, n: int) -> float:
    """Return the largest share that leaves a chance of 5 % to see `k` or fewer in `n`."""
    return float(binomtest(k, n, alternative="less").proportion_ci(0.95, "exact").high)


def _phantom_in_words(run: Run) -> str:
    """Say what became of the lesions, and whose outlines they have."""
    lesions = pd.read_csv(run.folder / FOLDER / "network-lesions.csv")
    lesions = lesions[lesions["split"].isin(HELD_OUT) & (lesions["status"] == "required")]
    missed = lesions[lesions["missed"] == 1]
    below = int(missed["matched_candidate"].notna().sum())
    patients = run.card["data"]["patients"]
    learned_from = {*patients["train"], *patients["tune"]}
    known = lesions["origin"].str.split("/").str[0].isin(learned_from)
    hits = [
        f"{int(part['hit'].sum())} of {len(part)}" for part in (lesions[known], lesions[~known])
    ]
    return (
        f"Of {len(lesions)} lesions {len(missed)} are missed: {below} are candidates below the "
        f"operating point, {len(missed) - below} are no candidates. The phantom's lesions have the "
        f"outlines of real nodules: of those from patients that the run learned from it hits "
        f"{hits[0]}, of the others {hits[1]}."
    )


def _n_phantoms(run: Run, split: str) -> int:
    return sum(name.startswith("PHANTOM") for name in run.card["data"]["patients"][split])


def _again(folder: Path) -> Iterator[str]:
    """Yield what other seeds gave, on nodules and on scans that this run has seen."""
    runs = repeats(folder)
    if len(runs) == 1:
        return
    yield from (
        "## Made again",
        "",
        "The training with other seeds, each time without one of the whole scans. The difference "
        "is taken nodule by nodule.",
        "",
        "| Seed | Whole scans seen | Settings that differ | 3D Dice, held-out nodules | Difference "
        f"to seed {Run(folder).config.seed} | Missed |",
        "|---|---|---|---|---|---|",
    )
    for row in outlines(runs).itertuples():
        difference = "" if row.difference is None else row.difference.text(3)
        yield (
            f"| {row.seed} | {row.scans} | {', '.join(row.changed) or 'none'} | "
            f"{row.dice.text(3)} | {difference} | {row.missed} |"
        )
    yield from (
        "",
        "Whole scans, each as a run sees it that never saw it before:",
        "",
        "| Scan | Seed | Tumour hit | False alarms | Tumour marked | Dice |",
        "|---|---|---|---|---|---|",
    )
    for row in unseen_scans(runs).itertuples():
        yield (
            f"| {row.case} | {row.seed} | {'yes' if row.hit else 'no'} | {row.false_alarms} | "
            f"{number(row.tumour_share)} | {number(row.dice)} |"
        )
    yield from (
        "",
        "Where the runs differ in false alarms, the number of the shipped one is a matter of its "
        "seed, of the scans it saw and of its operating point.",
        "",
    )


def _missed_by_repeats(folder: Path) -> str:
    """Say which tumours a repeat missed in scans that it had never seen."""
    runs = repeats(folder)
    tests = {
        run.name: set(Run(run).card["data"]["real_ct"]["scans"].get("test", [])) for run in runs
    }
    missed = unseen_scans(runs).query("hit == 0").groupby(["run", "seed"])["case"].agg(", ".join)
    return "".join(
        f" The run with seed {seed}, without "
        f"{', '.join(sorted(tests[name] - tests[folder.name]))}, missed the tumours of {cases}."
        for (name, seed), cases in missed.items()
        if name != folder.name
    )


def number(value: float | None) -> str:
    """Write a figure, or that there is none."""
    return "undefined" if value is None or math.isnan(value) else f"{value:.2f}"


def write_model_card(folder: Path) -> Path:
    """Write the card of a run folder, in it."""
    target = folder.resolve() / MODEL_CARD
    target.write_text(model_card(Run(target.parent)), encoding="utf-8")
    return target
