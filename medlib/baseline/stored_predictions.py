"""What each method sees in a case; of a cohort it is kept in the run folder."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from medlib import progress
from medlib.annotation.case import Case
from medlib.baseline.candidates import Prediction, load_prediction, save_prediction
from medlib.baseline.comparators import predict_nothing, predict_threshold
from medlib.baseline.inference import predict_volume
from medlib.baseline.run import Run
from medlib.cohorts.cohort import Cohort, cohort_key
from medlib.errors import OverlapError
from medlib.keys import code_key, digest
from medlib.parallel import in_order

METHODS = ("network", "threshold", "empty")


def predictor(run: Run, method: str = "network") -> Callable[[Case], Prediction]:
    """Return what one of `METHODS` sees in a case, a whole scan or a window."""
    config = run.config
    if method == "network":
        network, outliner = run.load_network(), run.load_outliner()
        return lambda case: predict_volume(
            network, config, case.volume, outliner=outliner, is_window=case.is_window
        )
    if method == "threshold":
        return lambda case: predict_threshold(config, case.volume, is_window=case.is_window)
    if method == "empty":
        return lambda case: predict_nothing(config, case.volume)
    raise ValueError(f"method is '{method}', expected one of {', '.join(METHODS)}")


def stored_predictor(run: Run, cohort: Cohort, method: str) -> Callable[[Case], Prediction]:
    """Return `predictor`, with its answers for a cohort kept in the run folder.

    They are in ``predictions/<method>/<case_id>.npz``, and made again when the run, the cohort or
    the code of the prediction changed. Raises OverlapError for a case to be tested of a patient on
    whom the run was trained.
    """
    see = predictor(run, method)
    key = digest(
        run.model_key(),
        cohort_key(cohort),
        code_key("medlib.baseline.inference", "medlib.baseline.comparators"),
    )
    trained_on = set(run.card["data"]["patients"]["train"])

    def of(case: Case) -> Prediction:
        if case.split != "train" and case.patient_id in trained_on:
            raise OverlapError(
                f"patient {case.patient_id} of the '{case.split}' part was trained on in the run "
                f"{run.folder.name}: test on patients it has never seen, or train again"
            )
        path = run.folder / "predictions" / method / f"{case.case_id}.npz"
        prediction = load_prediction(path, key)
        if prediction is None:
            prediction = see(case)
            save_prediction(prediction, path, key)
        return prediction

    return of


def predictions(
    run: Run,
    cohort: Cohort,
    method: str,
    splits: Sequence[str] = ("tune", "test", "external"),
) -> Iterator[tuple[Case, Prediction]]:
    """Yield every case of these splits with what a method sees in it; see `stored_predictor`."""
    see = stored_predictor(run, cohort, method)
    n_cases = int(cohort.table["split"].isin(splits).sum())
    cases = (case for split in splits for case in cohort.cases(split))
    found = in_order(lambda case: (case, see(case)), cases)
    yield from progress.track(found, f"predictions, {method}", total=n_cases)
