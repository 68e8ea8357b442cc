"""What each method sees in every case of a cohort, kept in the run folder."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial

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


def predictions(
    run: Run,
    cohort: Cohort,
    method: str,
    splits: Sequence[str] = ("tune", "test", "external"),
) -> Iterator[tuple[Case, Prediction]]:
    """Yield every case of these splits with what a method sees in it.

    Predictions are kept in the run folder, ``predictions/<method>/<case_id>.npz``, and made again
    when the run, the cohort or the code of the prediction changed.

    Parameters
    ----------
    run : Run
    cohort : Cohort
    method : str
        One of `METHODS`.
    splits : sequence of str

    Raises
    ------
    OverlapError
        If a case to be tested belongs to a patient on whom the run was trained.
    """
    config = run.config
    if method == "network":
        predict = partial(predict_volume, run.load_network(), config, outliner=run.load_outliner())
    elif method == "threshold":
        predict = partial(predict_threshold, config)
    elif method == "empty":
        predict = partial(predict_nothing, config)
    else:
        raise ValueError(f"method is '{method}', expected one of {', '.join(METHODS)}")
    key = digest(
        run.model_key(),
        cohort_key(cohort),
        code_key("medlib.baseline.inference", "medlib.baseline.comparators"),
    )
    trained_on = set(run.card["data"]["patients"]["train"])
    n_cases = int(cohort.table["split"].isin(splits).sum())
    cases = (case for split in splits for case in cohort.cases(split))

    def of(case: Case) -> tuple[Case, Prediction]:
        if case.split != "train" and case.patient_id in trained_on:
            raise OverlapError(
                f"patient {case.patient_id} of the '{case.split}' part was trained on in the run "
                f"{run.folder.name}: test on patients it has never seen, or train again"
            )
        path = run.folder / "predictions" / method / f"{case.case_id}.npz"
        prediction = load_prediction(path, key)
        if prediction is None:
            prediction = predict(case.volume)
            save_prediction(prediction, path, key)
        return case, prediction

    yield from progress.track(in_order(of, cases), f"predictions, {method}", total=n_cases)
