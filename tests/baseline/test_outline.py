from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import ndimage
from toy import Ball, DenserThan, dice, toy_volume

from medlib.baseline import outline as outline_module
from medlib.baseline.config import TrainConfig
from medlib.baseline.inference import predict_volume
from medlib.baseline.network import build_network, save_weights
from medlib.baseline.network_passes import Model
from medlib.baseline.outline import (
    MORE_SLICES_MM,
    OFF_CENTRE_MM,
    RIM_VOXELS,
    ZOOMS,
    Outline,
    central_region,
    is_tube,
    outline,
    outline_window,
    widest_mm,
    width_mm,
    zoomed,
)
from medlib.baseline.run import OUTLINER, Run

CPU = torch.device("cpu")
BRIGHT = 1500
SPACING_MM = (1.0, 0.8, 0.8)


@pytest.fixture
def config(tiny: TrainConfig) -> TrainConfig:
    return tiny.model_copy(
        update={
            "in_plane_spacing_mm": 0.5,
            "slice_spacing_mm": 1.0,
            "crop_px": 64,
            "candidate_level": 0.5,
        }
    )


def middle_of(mask: np.ndarray) -> tuple[slice, slice, slice]:
    z, y, x = (slice(int(index.min()), int(index.max()) + 1) for index in np.nonzero(mask))
    return z, y, x


def test_the_lesion_in_the_middle_is_outlined_and_its_neighbour_is_not(config: TrainConfig):
    balls = [Ball((20.0, 64.0, 36.0), 4.0, hu=BRIGHT), Ball((20.0, 64.0, 48.0), 3.0, hu=BRIGHT)]
    volume, (lesion, neighbour) = toy_volume(balls, spacing_mm=SPACING_MM)
    found = outline(Model(DenserThan(325), config), volume, middle_of(lesion))
    whole = np.zeros(volume.hu.shape, np.float32)
    whole[found.box] = found.probability
    marked = whole >= config.candidate_level
    assert dice(marked, lesion) > 0.93
    assert not (marked & neighbour).any()
    assert (whole[lesion] > 0.5).mean() > 0.9


@pytest.mark.parametrize(("radius_mm", "zoom"), [(4.0, 0), (8.0, 0), (13.0, 1)])
def test_what_does_not_fit_is_seen_through_the_wider_window(config: TrainConfig, radius_mm, zoom):
    volume, (lesion,) = toy_volume(
        [Ball((20.0, 64.0, 36.0), radius_mm, hu=BRIGHT)], spacing_mm=(2.0, 1.0, 1.0)
    )
    assert (2 * radius_mm > widest_mm(config, ZOOMS[0])) == (zoom == 1)
    outliner, box = Model(DenserThan(325), config), middle_of(lesion)
    side_mm = zoomed(config, ZOOMS[zoom]).in_plane_spacing_mm * config.crop_px
    for own in (None, lesion[box]):
        found = outline(outliner, volume, box, own)
        _, rows, _ = found.box
        assert rows.stop - rows.start == pytest.approx(side_mm, abs=1)
        marked = np.zeros(volume.hu.shape, bool)
        marked[found.box] = found.probability >= config.candidate_level
        assert dice(marked, lesion) > 0.9


@pytest.mark.parametrize(
    ("close", "wide", "close_is_believed"),
    [
        ((0.0, 0.9), (14.0, 0.8), False),
        ((3.0, 0.9), (0.0, 0.8), True),
        ((3.0, 0.9), (14.0, 0.8), True),  # joined with a wall in the wide one
        ((3.0, 0.6), (14.0, 0.8), False),  # a mass cut up in the narrow one
        ((3.0, 0.6), (6.0, 0.8), False),
        ((3.0, 0.9), (6.0, 0.8), True),
        ((12.0, 0.9), (14.0, 0.8), False),  # the same thing, too wide for the narrow one
        ((5.0, 0.6), (6.0, 0.8), True),  # the same thing, and it fits
        ((11.0, 0.9), (20.0, 0.8), False),  # surer, but neither fits
        ((11.0, 0.9), (5.0, 0.8), True),
    ],
)
def test_where_two_windows_disagree_the_surer_one_is_believed(
    config: TrainConfig, monkeypatch, close, wide, close_is_believed
):
    seen = {ZOOMS[0]: close, ZOOMS[1]: wide}
    assert 2 * 6.0 < widest_mm(config, ZOOMS[0]) < 2 * 11.0

    def look(outliner, volume, center, slices, zoom, *, glance):
        y, x = (np.arange(n) - c for n, c in zip(volume.hu.shape[1:], center[1:], strict=True))
        disc = np.hypot(y[:, None], x) * SPACING_MM[1] < seen[zoom][0]
        probability = seen[zoom][1] * np.broadcast_to(disc, volume.hu.shape).astype(np.float32)
        return Outline(tuple(slice(0, n) for n in probability.shape), probability)

    monkeypatch.setattr(outline_module, "_look", look)
    volume, _ = toy_volume([], spacing_mm=SPACING_MM)
    marked = outline_window(Model(DenserThan(325), config, CPU), volume) > 0
    found_mm = width_mm(marked, volume.spacing_mm)
    expected_mm = 2 * seen[ZOOMS[not close_is_believed]][0]
    assert found_mm == pytest.approx(expected_mm, abs=2 * SPACING_MM[1])


@pytest.mark.parametrize(("radius_mm", "goes_on"), [(2.0, False), (4.5, True)])
def test_a_look_asks_for_no_more_than_a_glance_has_shown(config: TrainConfig, radius_mm, goes_on):
    volume, (lesion,) = toy_volume(
        [Ball((20.0, 64.0, 36.0), radius_mm, hu=BRIGHT)], spacing_mm=(1.0, 1.0, 1.0)
    )
    box = middle_of(lesion)
    looks = {}
    for name, hu in (("sees it", 325), ("sees nothing", 3000)):
        network = DenserThan(hu)
        found = outline(Model(network, config), volume, box, lesion[box])
        looks[name] = network.slices
        assert found.probability.any() == (name == "sees it")
    around_centre = 2 * int(OFF_CENTRE_MM) + 1 + 2  # slices, and those that border on them
    shown = box[0].stop - box[0].start + 2 * RIM_VOXELS
    four_views = 4 * (shown + 2 * int(MORE_SLICES_MM) + 2)
    the_rest = len(found.probability) - (2 * int(OFF_CENTRE_MM) + 1) + 2
    assert looks == {
        "sees nothing": around_centre,
        "sees it": around_centre + four_views + goes_on * the_rest,
    }


def test_what_runs_through_is_a_vessel_unless_it_swells(config: TrainConfig):
    def look_at(nodules: list[Ball]) -> tuple[np.ndarray, np.ndarray]:
        volume, truths = toy_volume(nodules, size_mm=(100.0, 128.0, 128.0))
        nodule = np.any(truths, axis=0) if truths else np.zeros(volume.hu.shape, bool)
        row, column = (round(64 / volume.spacing_mm[1]), round(36 / volume.spacing_mm[2]))
        volume.hu[:, row - 1 : row + 2, column - 1 : column + 2] = BRIGHT
        marked = volume.hu == BRIGHT
        box = middle_of(marked)
        found = outline(Model(DenserThan(325), config), volume, box, marked[box])
        whole = np.zeros(volume.hu.shape, bool)
        whole[found.box] = found.probability >= config.candidate_level
        return whole, nodule

    vessel, _ = look_at([])
    assert not vessel.any()
    for z_mm, radius_mm in ((50.0, 4.0), (51.25, 3.0), (85.0, 4.0), (12.0, 4.0)):  # on a vessel
        marked, nodule = look_at([Ball((z_mm, 64.0, 36.0), radius_mm, hu=BRIGHT)])
        assert marked[nodule].mean() > 0.9


def test_a_tube_runs_through_and_swells_nowhere():
    assert is_tube(np.array([5, 6, 5, 7, 6]))
    assert not is_tube(np.array([5, 6, 0, 7, 6]))
    assert not is_tube(np.array([5, 6, 30, 7, 6]))


class NeedsAnEdge(DenserThan):
    """Sure of nothing where tissue fills the window to its side: it sees no edge."""

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        side = image[:, image.shape[1] // 2, 1, image.shape[3] // 2]
        return super().forward(image) - 1000 * (side > self.level)[:, None, None, None]


def test_a_mass_that_fills_the_narrow_window_is_seen_through_the_wide_one(config: TrainConfig):
    volume, (mass,) = toy_volume([Ball((20.0, 64.0, 36.0), 18.0, hu=BRIGHT)], (2.0, 1.0, 1.0))
    volume.hu[~mass] = -850
    box = middle_of(mass)
    found = outline(Model(NeedsAnEdge(325), config), volume, box)
    marked = np.zeros(volume.hu.shape, bool)
    marked[found.box] = found.probability >= config.candidate_level
    assert dice(marked, mass) > 0.9


def test_nothing_in_the_middle_is_nothing_found(config: TrainConfig):
    volume, (lesion,) = toy_volume([Ball((20.0, 64.0, 36.0), 4.0, hu=BRIGHT)], SPACING_MM)
    z, y, x = middle_of(lesion)
    aside = slice(x.start - 14, x.stop - 14)
    assert not outline(Model(DenserThan(325), config), volume, (z, y, aside)).probability.any()


def test_the_region_nearest_to_the_centre_is_kept_with_its_rim():
    marked = np.zeros((3, 30, 30), bool)
    marked[1, 10:13, 10:13] = True
    marked[1, 20:29, 20:29] = True
    kept = central_region(marked, [1, 13, 13], (1.0, 1.0, 1.0))
    assert kept[1, 10:13, 10:13].all()
    assert kept[1, 8, 11]
    assert not kept[1, 7, 11]
    assert not kept[1, 20:, 20:].any()
    too_far = [1, 12 + OFF_CENTRE_MM + 1, 4]
    assert not central_region(marked, too_far, (1.0, 1.0, 1.0)).any()
    assert not central_region(np.zeros_like(marked), [1, 1, 1], (1.0, 1.0, 1.0)).any()


def test_the_width_is_the_larger_side_in_plane():
    marked = np.zeros((30, 20, 20), bool)
    assert width_mm(marked, (1.0, 1.0, 1.0)) == 0
    marked[:, 4:7, 3:5] = True
    assert width_mm(marked, (9.0, 0.5, 0.7)) == pytest.approx(1.5)


def test_an_outliner_draws_takes_back_and_leaves_masses_alone(config: TrainConfig):
    small = Ball((20.0, 50.0, 36.0), 4.0, hu=BRIGHT)
    vague = Ball((20.0, 84.0, 36.0), 4.0, hu=200.0)
    mass = Ball((20.0, 64.0, 92.0), 20.0, hu=BRIGHT)
    volume, masks = toy_volume([small, vague, mass], spacing_mm=(2.0, 1.0, 1.0))
    coarse = config.model_copy(update={"in_plane_spacing_mm": 2.0, "slice_spacing_mm": 4.0})
    search = DenserThan(100)
    alone = predict_volume(search, coarse, volume, CPU)
    assert len(alone.candidates) == 3
    assert 2 * mass.radius_mm > widest_mm(config)
    drawn = predict_volume(search, coarse, volume, CPU, outliner=Model(DenserThan(300), config))
    assert len(drawn.candidates) == 2  # the vague one is taken back
    assert not drawn.labels[masks[1]].any()
    by_size = drawn.candidates.sort_values("diameter_mm")["candidate_id"].to_list()
    assert dice(drawn.labels == by_size[0], masks[0]) > 0.8
    before = alone.labels[20 // 2, 64, 92]
    assert np.array_equal(drawn.labels == by_size[1], alone.labels == before)


class SeesUpTo30Pixels(DenserThan):
    """Sure of nothing that is wider: it sees no edge."""

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        logits = super().forward(image)
        for one in logits[:, 0]:
            parts, n_parts = ndimage.label((one > 0).numpy())
            boxes = ndimage.find_objects(parts)
            for number, box in zip(range(1, n_parts + 1), boxes, strict=True):
                if max(side.stop - side.start for side in box) > 30:
                    one[torch.from_numpy(parts == number)] = -100
        return logits


def test_a_mass_too_large_for_the_search_is_found_from_afar(config: TrainConfig):
    network, look = SeesUpTo30Pixels(325), Model(SeesUpTo30Pixels(325), config)
    coarse = config.model_copy(update={"in_plane_spacing_mm": 1.0, "slice_spacing_mm": 2.0})

    def shares(radius_mm: float) -> list[float]:
        volume, (mass,) = toy_volume(
            [Ball((30.0, 64.0, 36.0), radius_mm, hu=BRIGHT)], (2.0, 1.0, 1.0), (60.0, 128.0, 128.0)
        )
        alone = predict_volume(network, coarse, volume, CPU)
        both = predict_volume(network, coarse, volume, CPU, outliner=look)
        return [dice(found.labels > 0, mass) for found in (alone, both)]

    alone, both = shares(20.0)
    assert alone < 0.5
    assert both > 0.95
    # What is not larger than the windows of the close look is left to it.
    alone, both = shares(0.45 * widest_mm(config))
    assert both == pytest.approx(alone)


def test_a_mass_that_the_close_look_takes_back_in_pieces_is_still_found_from_afar(config):
    class TwoThirds(DenserThan):
        """Marks most of what is larger than 30 pixels, in pieces."""

        def forward(self, image: torch.Tensor) -> torch.Tensor:
            logits = super().forward(image)
            if logits.shape[-1] > 70:  # the fine grid
                logits[:, :, ::6] = logits[:, :, 1::6] = -100
            return logits

    mass = Ball((30.0, 64.0, 36.0), 20.0, hu=BRIGHT)
    volume, (truth,) = toy_volume([mass], (2.0, 1.0, 1.0), (60.0, 128.0, 128.0))
    coarse = config.model_copy(update={"in_plane_spacing_mm": 1.0, "slice_spacing_mm": 2.0})
    alone = predict_volume(TwoThirds(325), coarse, volume, CPU)
    assert (alone.labels[truth] > 0).mean() > 0.5
    never = Model(DenserThan(5000), config)
    both = predict_volume(TwoThirds(325), coarse, volume, CPU, outliner=never)
    assert dice(both.labels > 0, truth) > 0.9


def test_what_the_search_sees_well_keeps_its_sharper_outline(config: TrainConfig):
    mass = Ball((30.0, 64.0, 36.0), 20.0, hu=BRIGHT)
    volume, (truth,) = toy_volume([mass], (2.0, 1.0, 1.0), (60.0, 128.0, 128.0))
    coarse = config.model_copy(update={"in_plane_spacing_mm": 1.0, "slice_spacing_mm": 2.0})
    look = Model(DenserThan(325), config)
    alone = predict_volume(DenserThan(325), coarse, volume, CPU)
    both = predict_volume(DenserThan(325), coarse, volume, CPU, outliner=look)
    assert dice(alone.labels > 0, truth) > 0.95
    assert np.array_equal(both.labels, alone.labels)


def test_a_volume_of_interest_is_looked_at_in_its_middle(config: TrainConfig):
    volume, (lesion,) = toy_volume(
        [Ball((12.0, 20.0, 20.0), 4.0, hu=BRIGHT)],
        spacing_mm=(2.0, 0.8, 0.8),
        size_mm=(24.0, 40.0, 40.0),
    )
    volume.hu[~lesion] = -850
    probability = outline_window(Model(DenserThan(325), config), volume)
    assert probability.shape == volume.hu.shape
    assert dice(probability >= 0.5, lesion) > 0.9


def test_a_run_may_have_an_outliner(tmp_path, tiny: TrainConfig):
    def write(folder):
        folder.mkdir()
        (folder / "config.json").write_text(tiny.model_dump_json())
        save_weights(build_network(tiny, pretrained=False), folder / "weights.safetensors")

    write(tmp_path / "run")
    run = Run(tmp_path / "run")
    assert run.load_outliner() is None
    alone = run.weights_sha256()
    write(run.folder / OUTLINER)
    found = run.load_outliner()
    assert found is not None
    assert found.config == tiny
    assert run.weights_sha256() != alone  # another outliner is another model
    key = run.model_key()
    assert Run(run.folder).model_key() == key
    other = tiny.model_copy(update={"candidate_level": 0.9})
    (run.folder / OUTLINER / "config.json").write_text(other.model_dump_json())
    assert run.model_key() != key


def told(outliner_level: float, search_says: float, config: TrainConfig):
    """Let a search that is so sure of everything bright find two balls and a mass, then outline."""

    class Unsure(DenserThan):
        def forward(self, image):
            odds = search_says / (1 - search_says)
            return torch.where(super().forward(image) > 0, np.log(odds), -20.0)

    balls = [Ball((20.0, 64.0, 36.0), 4.0, hu=BRIGHT), Ball((20.0, 64.0, 92.0), 22.0, hu=BRIGHT)]
    volume, masks = toy_volume(balls, spacing_mm=SPACING_MM)
    outliner = Model(DenserThan(325), config.model_copy(update={"candidate_level": outliner_level}))
    assert 2 * balls[1].radius_mm > widest_mm(config)
    search = config.model_copy(update={"candidate_level": 0.3, "in_plane_spacing_mm": 0.8})
    return predict_volume(Unsure(325), search, volume, CPU, outliner), masks


def test_the_score_is_half_way_between_both_networks(config: TrainConfig):
    scores = {}
    for says in (0.6, 0.9):
        found, masks = told(0.5, says, config)
        (small,) = found.candidates.nsmallest(1, "diameter_mm").itertuples()
        assert dice(found.labels == small.candidate_id, masks[0]) > 0.8
        scores[says] = np.log(small.score / (1 - small.score))
    # The close look says the same both times.
    moved = np.log(0.9 / 0.1) - np.log(0.6 / 0.4)
    assert scores[0.9] - scores[0.6] == pytest.approx(moved / 2, abs=0.05)


@pytest.mark.parametrize("level", [0.5, 0.65])
def test_a_mass_that_the_search_is_not_sure_of_is_not_lost(config: TrainConfig, level):
    found, masks = told(level, 0.6, config)
    (mass,) = found.candidates.nlargest(1, "diameter_mm").itertuples()
    assert dice(found.labels == mass.candidate_id, masks[1]) > 0.8


def test_a_candidate_thinner_than_the_voxels_is_looked_at_all_the_same(config: TrainConfig):
    volume, (lesion,) = toy_volume([Ball((20.0, 64.0, 36.0), 4.0, hu=BRIGHT)], SPACING_MM)
    box = middle_of(lesion)
    nothing_left = np.zeros(lesion[box].shape, bool)
    found = outline(Model(DenserThan(325), config), volume, box, nothing_left)
    marked = np.zeros(volume.hu.shape, bool)
    marked[found.box] = found.probability >= config.candidate_level
    assert dice(marked, lesion) > 0.9
