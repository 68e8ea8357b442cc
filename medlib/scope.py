"""The project as one object: what it takes in, what it gives out, and where it ends."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

DISCLAIMER = (
    "For research and assistance only: not a medical device, not a diagnosis, "
    "never a replacement for clinical judgement."
)


@dataclass
class MedicalProject:
    """What a medical imaging project commits itself to before it trains anything."""

    task: str  # the one thing done
    input_type: str  # the one kind of input taken
    labels: list[str]  # the classes of a voxel (or of a scan), background first
    metrics: list[str]  # what success and harm are measured by
    clinical_constraints: list[str]  # what has to hold wherever the output is used
    risks: list[str] = field(default_factory=list)  # what is known beforehand to go wrong


PROJECT = MedicalProject(
    task="Lung lesion region segmentation",
    input_type="CT slice",
    labels=["background", "lesion"],
    metrics=["dice", "iou", "sensitivity", "false_negative_rate"],
    clinical_constraints=[
        "High-risk samples must be reviewed by humans",
        "Results are for assistance only and do not directly replace clinical judgment",
    ],
    risks=["annotation inconsistency", "extreme class imbalance", "high cost of false negatives"],
)


def binary_screening(project: MedicalProject) -> MedicalProject:
    """Narrow a segmentation project to one question a scan: high-risk finding, present or absent.

    Without a mask the overlap metrics have no meaning and are replaced; the risks stay, because
    a smaller question does not make a missed finding cheaper.
    """
    return replace(
        project,
        task="High-risk lung finding: present or absent",
        input_type="CT series",
        labels=["absent", "present"],
        metrics=["sensitivity", "false_negative_rate", "specificity"],
        clinical_constraints=[
            "The output is a screening aid only and does not replace clinical judgment",
            "Sensitivity is prioritized over specificity",
            "Every positive, every borderline and every unreadable scan is reviewed by a human",
            "A negative output does not end the reading: the ordinary first read stands",
        ],
        risks=[*project.risks, "a label without a location cannot be checked at a glance"],
    )


@dataclass(frozen=True)
class Gate:
    """A limit, both ends included, that a metric keeps before the output enters a reading room."""

    metric: str  # a fraction between 0 and 1
    minimum: float = 0.0
    maximum: float = 1.0

    def passes(self, value: float) -> bool:
        """Whether `value` keeps the limit. An undefined value (NaN) does not."""
        return self.minimum <= value <= self.maximum


GATES = {
    "false_negative_rate": Gate("false_negative_rate", maximum=0.1),
    "sensitivity": Gate("sensitivity", minimum=0.9),
}
