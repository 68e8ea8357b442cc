from .cohort import Case as Case
from .cohort import Cohort as Cohort
from .cohort import cohort_key as cohort_key
from .cohort import open_cohort as open_cohort
from .nodule_volumes import lesion_voi as lesion_voi
from .nodule_volumes import windows_of as windows_of
from .splits import check_disjoint as check_disjoint
