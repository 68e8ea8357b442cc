"""Making a run: the configuration, the cohort and the networks that are trained on it.

A profile has one network, or two: one that searches whole scans and one that looks closely at what
was found, a run in the folder of the first. Whatever is killed goes on from its last look at the
tune part; level, operating point and figures come later, see `medlib.risk.run_evaluation`.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import NamedTuple

from medlib.baseline import processes, training_sources
from medlib.baseline.card import Part, evidence_cards
from medlib.baseline.config import OUTLINE_PROFILE, PROFILES, TrainConfig, train_config
from medlib.baseline.device import best_device
from medlib.baseline.network import save_weights
from medlib.baseline.run import CARD, CONFIG, HISTORY, OUTLINER, WEIGHTS, Run
from medlib.cohorts.cohort import PHANTOM, REAL, Cohort, cohort_key, open_cohort
from medlib.errors import OverlapError, RunError
from medlib.files import lock_on, put_in_place, write_file, write_json
from medlib.keys import code_key, digest
from medlib.parameters import Seed, checked
from medlib.paths import RUNS


class Order(NamedTuple):
    """What is to be trained: one configuration, or two, and the data by name."""

    configs: tuple[TrainConfig, ...]
    dataset: str
    changes: tuple[str, ...] = ()
    left_out: str | None = None

    @property
    def is_pair(self) -> bool:
        """Whether a second network looks closely at what the first one finds."""
        return len(self.configs) > 1

    @property
    def name(self) -> str:
        """Of the run folder, where none is given."""
        first = self.configs[0]
        if not self.is_pair:
            words = [self.source, first.profile, f"seed{first.seed}", *self.changes]
            return re.sub(r"[^\w.-]+", "-", "-".join(words))
        name = f"{first.profile}{'-phantom' * (self.dataset == PHANTOM)}-seed{first.seed}"
        return f"left-out/{name}-without-{self.left_out}" if self.left_out else name

    @property
    def source(self) -> str:
        """Name the data; two folders of one name, or one called phantom, make two runs."""
        folder = Path(self.dataset).resolve()
        return PHANTOM if self.dataset == PHANTOM else f"{folder.name}-{digest(str(folder))[:8]}"

    @property
    def command(self) -> str:
        """What makes the run again."""
        first = self.configs[0]
        left_out = f" --leave-out {self.left_out}" if self.left_out else ""
        return (
            f"medlib train --profile {first.profile} --seed {first.seed} --dataset {self.dataset}"
            f"{left_out} --run-dir DIR"
        )


def order(
    profile: str = "quick",
    dataset: str | Path | None = None,
    seed: int = 0,
    changes: Sequence[str] = (),
    left_out: str | None = None,
) -> Order:
    """Say what is to be trained; see `find_or_make_run`.

    Raises
    ------
    RunError
        If it cannot be: nothing has been opened yet.
    """
    outlines = OUTLINE_PROFILE.format(profile=profile)
    is_pair = outlines in PROFILES
    if is_pair and dataset not in (PHANTOM, REAL):
        raise RunError(
            f"profile '{profile}' learns from real CT: use --dataset {REAL}, or --dataset "
            f"{PHANTOM} for the phantom in its place"
        )
    dataset = str(dataset or PHANTOM)
    if left_out and dataset != REAL:
        raise RunError(f"--leave-out {left_out}: only a run on {REAL} sees whole real scans")
    if changes and (is_pair or dataset == REAL):
        raise RunError(
            f"--set {changes[0]}: such a run has two networks with a profile each, in "
            "medlib/baseline/config.py; change it there"
        )
    configs = [train_config(profile, seed, changes)]
    if is_pair:
        configs.append(train_config(outlines, seed))
    elif dataset == REAL:
        raise RunError(f"profile '{profile}' makes no run on real CT: use the profile 'lidc'")
    elif configs[0].phantom_share < 1:
        raise RunError(
            f"profile '{profile}' learns from real CT: use --profile lidc --dataset {REAL}"
        )
    return Order(tuple(configs), dataset, tuple(changes), left_out)


def open_data(wanted: Order) -> tuple[Cohort, Cohort]:
    """Open the cohort that is learned from, and the phantom that stands beside it (or is it)."""
    first = wanted.configs[0]
    dataset = PHANTOM if wanted.is_pair else wanted.dataset
    phantom = open_cohort(dataset, first.cohort, first.seed)
    if wanted.dataset == dataset:
        return phantom, phantom
    cohort = open_cohort(REAL)
    if wanted.left_out:
        cohort = training_sources.leave_out(cohort, wanted.left_out)
    training_sources.check_scans(cohort)
    return cohort, phantom


@checked
def find_or_make_run(
    profile: str = "quick",
    dataset: str | Path | None = None,
    seed: Seed = 0,
    run_dir: str | Path | None = None,
    changes: Sequence[str] = (),
    left_out: str | None = None,
) -> Run:
    """Return the run made from these inputs; train it where there is none. Prints which it was.

    `dataset` is as `open_cohort` takes it: the phantom by default, but for a profile with two
    networks, where it has to be said. The seed is that of the phantom and of the training.
    `changes` to the profile are each ``FIELD=VALUE``; see `medlib.baseline.config.train_config`.
    `left_out` is a whole real scan that training would see, kept for testing. A run stands in
    `run_dir`, by default under the project's build folder.

    Raises
    ------
    InputError
        If what is given can be none of these.
    RunError
        If there is no such run to be made, or `run_dir` holds something else: no run, or one of
        two networks, which took hours, from other inputs.
    DataError
        If data are not there, or no such scan can be left out.
    OverlapError
        If a patient would stand in train and in tune, or has given outlines to both.
    """
    wanted = order(profile, dataset, seed, changes, left_out)
    folder = Path(run_dir) if run_dir else RUNS / wanted.name
    if folder.exists() and not folder.is_dir():
        raise RunError(f"{folder} is no folder: name one for the run, it is made if need be")
    cohort, phantom = open_data(wanted)
    keys = {
        "configuration": digest(*(config.model_dump_json() for config in wanted.configs)),
        "cohort": cohort_key(cohort),
        "training code": code_key("medlib.baseline.train", "medlib.baseline.training_mix"),
    }
    if wanted.is_pair:
        splits = cohort.table[["case_id", "split"]].to_csv()  # a scan may be left out
        keys["cohort"] = digest(keys["cohort"], splits, cohort_key(phantom))
    changed = _what_changed(folder, keys)
    # What stands is read without a lock. Another command that would make it waits, then finds it;
    # the processes of one training go together.
    with lock_on(folder) if changed and not processes.rank() else nullcontext():
        changed = changed and _what_changed(folder, keys)
        if changed and wanted.is_pair and (folder / CARD).is_file():
            raise RunError(
                f"{folder} exists, made from {' and '.join(changed)}: delete it to make the run "
                "again, or name another folder"
            )
        run = _make(wanted, cohort, phantom, folder, keys) if changed else Run(folder)
    made = run.card["time"]
    if changed:
        print(f"made the run {folder.name} in {made['seconds']:.0f} s ({' and '.join(changed)})")
    else:
        print(f"found the run {folder.name}, made {made['finished']} in {made['seconds']:.0f} s")
    return run


def _what_changed(folder: Path, keys: dict[str, str]) -> list[str]:
    """Say why the folder is no run of these inputs; an empty list if it is one."""
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return ["there was none"]
    if not (folder / CARD).is_file():
        raise RunError(
            f"{folder} holds files but no {CARD}, so it is no run: name an empty or a new folder"
        )
    before = Run(folder).card.get("keys", {})
    return [f"another {name}" for name, key in keys.items() if before.get(name) != key]


def _make(
    wanted: Order, cohort: Cohort, phantom: Cohort, folder: Path, keys: dict[str, str]
) -> Run:
    """Train and write the run beside its folder, then put it in place of what stood there."""
    checkpoints = folder.parent / f".{folder.name}.{digest(*keys.values())[:16]}"
    parts = _train(wanted, cohort, phantom, checkpoints)
    if processes.rank():
        raise SystemExit(0)  # the first process writes
    with put_in_place(folder) as beside:
        for part, where in zip(parts, (beside, beside / OUTLINER), strict=False):
            where.mkdir()
            write_file(where / CONFIG, part.config.model_dump_json(indent=2) + "\n")
            save_weights(part.trained.network, where / WEIGHTS)
            part.trained.history.to_csv(where / HISTORY, index=False)
        shas = [Run(beside / name).weights_sha256() for name in ("", OUTLINER)[: len(parts)]]
        card, *inner = evidence_cards(parts, shas, cohort, phantom, wanted.command)
        for of_outliner in inner:
            write_json(beside / OUTLINER / CARD, of_outliner)
        write_json(beside / CARD, {**card, "keys": keys})
    shutil.rmtree(checkpoints)
    return Run(folder)


def _train(wanted: Order, cohort: Cohort, phantom: Cohort, checkpoints: Path) -> list[Part]:
    # Training needs Lightning, which takes seconds to import; finding a run does not.
    from medlib.baseline import training_mix
    from medlib.baseline.train import train_on

    givers: dict[str, set[str]] = {}
    if wanted.is_pair:
        givers = {p: training_sources.outline_givers(cohort, p) for p in ("train", "tune")}
        if both := givers["train"] & givers["tune"]:
            raise OverlapError(f"{min(both)} gave outlines to train and to tune patients")
    parts: list[Part] = []
    for config in wanted.configs:
        if not wanted.is_pair:
            mix = training_mix.patient_crops(cohort, config)
        elif not parts:
            mix = training_mix.search_crops(cohort, phantom, config)
        else:
            synthetic = phantom if cohort is phantom or config.phantom_share else None
            data = training_mix.outline_data(cohort, synthetic, config)
            mix = training_mix.outline_crops(data, config)
        of_one = checkpoints / config.profile
        of_one.mkdir(parents=True, exist_ok=True)
        trained = train_on(mix.train, mix.tune, config, best_device(), of_one)
        # Who gave the outlines of what is shown is no test either.
        patients = {p: sorted({*names, *givers.get(p, ())}) for p, names in mix.patients.items()}
        parts.append(Part(config, trained, patients))
    return parts
