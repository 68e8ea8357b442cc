from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

pytestmark = pytest.mark.real_ct


def test_real_series(real_ct, real_series):
    [volume] = real_series
    assert volume.hu.shape == (30, 512, 512)
    assert volume.spacing_mm == pytest.approx((8.0, 0.646484375, 0.646484375))
    assert volume.hu.min() == -1024
    assert len(set(volume.sop_instance_uids)) == 30
    assert (np.diff(volume.to_patient_mm(np.eye(3)[:1] * np.arange(30)[:, None])[:, 2]) > 0).all()


def test_slices_stand_in_ascending_z(real_ct, real_series):
    """The boxes name the file and the slice index of each UID, from another reader."""
    [volume] = real_series
    boxes = pd.read_csv(real_ct / "full_ct" / "Lung_Dx-A0002" / "Lung_Dx-A0002_boxes.csv")
    assert len(boxes) > 0
    for row in boxes.itertuples():
        assert volume.sop_instance_uids[row.slice_index_ascending_z] == row.sop_instance_uid
        z = volume.to_patient_mm(np.array([row.slice_index_ascending_z, 0, 0]))[2]
        assert z == pytest.approx(row.z_mm, abs=0.01)
