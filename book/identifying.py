"""What identifies a person in a DICOM header: no run, report or page carries it.

`PatientID` is not in the list: a table needs it to keep a patient in one part, and a manifest holds
only what its collection published.
"""

from __future__ import annotations

NEVER_CARRIED = (
    # who
    "PatientName",
    "OtherPatientNames",
    "PatientBirthName",
    "PatientMotherBirthName",
    "ResponsiblePerson",
    "PatientBirthDate",
    "PatientBirthTime",
    "EthnicGroup",
    "Occupation",
    "PatientReligiousPreference",
    "MilitaryRank",
    "BranchOfService",
    # under which other number
    "OtherPatientIDs",
    "IssuerOfPatientID",
    "AccessionNumber",
    "AdmissionID",
    "StudyID",
    "RequestedProcedureID",
    "MedicalRecordLocator",
    "InsurancePlanIdentification",
    # where to find them
    "PatientAddress",
    "PatientTelephoneNumbers",
    "PatientTelecomInformation",
    "CountryOfResidence",
    "RegionOfResidence",
    "CurrentPatientLocation",
    "PatientInstitutionResidence",
    # who saw them, and where
    "InstitutionName",
    "InstitutionAddress",
    "InstitutionalDepartmentName",
    "ReferringPhysicianName",
    "ReferringPhysicianAddress",
    "ReferringPhysicianTelephoneNumbers",
    "ConsultingPhysicianName",
    "PhysiciansOfRecord",
    "PerformingPhysicianName",
    "NameOfPhysiciansReadingStudy",
    "RequestingPhysician",
    "OperatorsName",
    "StationName",
    "DeviceSerialNumber",
    # what somebody typed
    "PatientComments",
    "AdditionalPatientHistory",
    "ImageComments",
    "StudyComments",
    "VisitComments",
    "RequestedProcedureDescription",
    "AdmittingDiagnosesDescription",
    "MedicalAlerts",
    "Allergies",
)
