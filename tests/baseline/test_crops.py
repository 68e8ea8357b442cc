from __future__ import annotations

import numpy as np
import pytest
import torch
from toy import Ball, ToyCohort, toy_case

from medlib.baseline.augment import Augmentation
from medlib.baseline.config import TrainConfig
from medlib.baseline.crops import Crops, DrawnCrops, Place
from medlib.baseline.prepared_cases import prepare, training_volumes
from medlib.baseline.training_volume import IGNORED, LESION
from medlib.errors import DataError, OverlapError

AGREED = Ball((20.0, 64.0, 36.0), 6.0, n_readers=3)
ALONE = Ball((20.0, 64.0, 92.0), 6.0, n_readers=1)


def test_required_lesions_are_the_target_and_disputed_ones_are_left_out(tiny: TrainConfig):
    volume = prepare(toy_case([AGREED, ALONE]), tiny)
    assert volume.target[8, 64, 36] == LESION
    assert volume.target[8, 64, 92] == IGNORED
    assert len(volume.lesions) == 1
    assert (volume.target == LESION).sum() == len(volume.lesions[0])
    assert set(volume.dense) < set(volume.lung)


def test_a_train_patient_who_stands_in_another_split_too_is_refused(tiny: TrainConfig):
    twice = ToyCohort((toy_case([AGREED]), toy_case([AGREED], split="test")))
    with pytest.raises(OverlapError, match="toy-1 in test, train"):
        training_volumes(twice, tiny, "train")


def test_an_empty_part_is_refused(tiny: TrainConfig):
    with pytest.raises(DataError, match="no case in its 'tune' part"):
        training_volumes(ToyCohort((toy_case([AGREED]),)), tiny, "tune")


def test_every_crop_without_a_copied_lesion_comes_from_one_volume(tiny: TrainConfig):
    config = tiny.model_copy(update={"graft_share": 0.0})
    # Each patient has an own HU value everywhere, so a crop that mixed two would show both.
    volumes = []
    for number in range(3):
        volume = prepare(toy_case([AGREED], patient_id=f"toy-{number}"), config)
        volume.hu[:] = 100 * number
        volumes.append(volume)
    crops = Crops(volumes, config, length=60, seed=1)
    places = [crops.place(np.random.default_rng((1, i))) for i in range(60)]
    assert {place.volume for place in places} == {0, 1, 2}
    for index, place in enumerate(places):
        image, _ = crops[index]
        values = [v for v in torch.unique(image).tolist() if v > -1]  # air beyond the image is -1
        assert values == pytest.approx([(100 * place.volume + 1000) / 700 - 1], abs=1e-6)


def test_the_crop_shows_the_slice_and_its_neighbours_at_its_place(tiny: TrainConfig):
    volume = prepare(toy_case([AGREED], noise_hu=30.0), tiny)
    volume.hu[:] = np.clip(volume.hu, -1000, 400)
    image, target = Crops([volume], tiny, length=1, seed=0).crop(Place(0, 8, 64, 60))
    hu = np.rint((image + 1) * 700 - 1000)
    expected = volume.hu[7:10, 32:96, 28:92]
    assert (hu == np.moveaxis(expected, 0, -1)).all()
    assert (target == volume.target[8, 32:96, 28:92]).all()


def test_beyond_the_field_of_view_is_air_and_background(tiny: TrainConfig):
    volume = prepare(toy_case([AGREED]), tiny)
    volume.hu[:] = 0
    image, target = Crops([volume], tiny, length=1, seed=0).crop(Place(0, 0, 0, 127))
    assert (image[:32] == -1).all()
    assert (image[:, 33:] == -1).all()
    assert (image[32:, :33] > -1).all()
    assert target.sum() == 0


def test_about_half_of_the_crops_lie_near_a_lesion_and_small_ones_count_as_much(tiny: TrainConfig):
    small = Ball((20.0, 64.0, 36.0), 3.0)
    large = Ball((20.0, 64.0, 92.0), 12.0)
    config = tiny.model_copy(update={"jitter_px": 0, "graft_share": 0.0})
    crops = Crops([prepare(toy_case([small, large]), config)], config, length=400, seed=2)
    places = [crops.place(np.random.default_rng(i)) for i in range(400)]
    near = {
        x: sum(abs(place.x - x) <= 1 and abs(place.y - 64) <= 1 for place in places)
        for x in (36, 92)
    }
    assert 70 <= near[36] <= 130
    assert 70 <= near[92] <= 130


def test_a_copied_lesion_shows_in_image_and_target(tiny: TrainConfig):
    config = tiny.model_copy(update={"lesion_share": 1.0, "graft_share": 1.0, "jitter_px": 0})
    with_lesion = prepare(toy_case([Ball((20.0, 64.0, 36.0), 6.0, hu=300)]), config)
    without = prepare(toy_case([], patient_id="toy-2"), config)
    crops = Crops([with_lesion, without], config, length=60, seed=0)
    places = [crops.place(np.random.default_rng(i)) for i in range(60)]
    seen = 0
    for place in (place for place in places if place.volume == 1):
        image, target = crops.crop(place)
        inside = target == LESION
        hu = (image[..., 1] + 1) * 700 - 1000
        seen += inside.any()
        assert (hu[inside] > -500).mean() > 0.9 if inside.any() else True
        assert (hu[~inside] > 150).mean() < 0.02  # nothing else in the chest is that dense
    assert seen > 10
    assert (without.target == 0).all()  # the volumes themselves stay as they are


def test_crop_i_is_always_the_same(tiny: TrainConfig):
    volumes = [prepare(toy_case([AGREED], noise_hu=30.0), tiny)]
    one, two = (Crops(volumes, tiny, 10, seed=3, augmentation=Augmentation()) for _ in range(2))
    order = [one[i] for i in range(10)]
    for i in reversed(range(10)):
        image, target = two[i]
        assert torch.equal(image, order[i][0])
        assert torch.equal(target, order[i][1])
    other = Crops(volumes, tiny, 10, seed=4, augmentation=Augmentation())
    assert not torch.equal(other[0][0], order[0][0])


def test_one_slice_mirrored_along_z_is_a_crop(tiny: TrainConfig):
    class UpsideDown(DrawnCrops):
        def draw(self, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
            image = rng.random((4, 4, 1), dtype=np.float32)
            return image[:, :, ::-1], np.zeros((4, 4), np.uint8)

    image, target = UpsideDown(tiny, 1, seed=0)[0]
    assert image.shape == target.shape == (1, 4, 4)


def test_augmentation_moves_image_and_target_together_and_keeps_the_labels():
    y, x = np.mgrid[:96, :96]
    ball = (y - 40) ** 2 + (x - 50) ** 2 < 10**2
    image = np.where(ball, 0.0, -0.8).astype(np.float32)[..., None].repeat(3, axis=-1)
    target = ball.astype(np.uint8)
    target[80:90, 5:15] = IGNORED
    augmentation = Augmentation()
    moved = 0
    for seed in range(30):
        new_image, new_target = augmentation(image, target, seed)
        assert new_image.shape == image.shape
        assert new_image.dtype == np.float32
        assert set(np.unique(new_target)) <= {0, 1, IGNORED}
        bright = new_image[..., 1] > -0.4
        lesion = new_target == LESION
        assert 2 * (bright & lesion).sum() / (bright.sum() + lesion.sum()) > 0.93
        moved += not np.array_equal(new_target, target)
    assert moved > 10
