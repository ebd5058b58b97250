"""memory and subspace: plain re-statements with torch and scikit-learn, banks that grow, and what is refused."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA
from torch.nn import functional

from edgevand.bank import Bank
from edgevand.errors import UsageError
from edgevand_runtime.detector import Detector
from edgevand_runtime.engines import EncoderOutput, open_engine
from edgevand_runtime.enroll import EnrolOptions, append_frames, enroll, remove_frames
from edgevand_runtime.features import judge, open_memory
from edgevand_runtime.memory import MemoryBank
from edgevand_runtime.methods import open_method
from edgevand_runtime.methods.memory import Foreground, otsu
from edgevand_runtime.sources import open_source
from edgevand_runtime.sources.base import new_frame
from tests.tiny import GRID, SIZE, WIDTH, draw_part, enrol_tiny, write_parts, write_tiny_bundle

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from edgevand.bundle import Bundle
    from edgevand_runtime.methods import RawScore

PATCHES = GRID * GRID
RNG = np.random.default_rng(11)


def unit(shape: tuple[int, ...]) -> NDArray[np.float32]:
    rows = RNG.standard_normal(shape) * np.geomspace(1, 0.05, shape[-1]) + 0.3
    return np.asarray(rows / np.linalg.norm(rows, axis=-1, keepdims=True), np.float32)


ENROLLED = {"tokens_1": unit((5, 2, PATCHES, WIDTH)), "embedding": unit((5, 6))}
QUERY = unit((2, PATCHES, WIDTH))


def outputs(tokens: NDArray[np.float32]) -> EncoderOutput:
    return EncoderOutput(embedding=np.zeros((len(tokens), 6), np.float32), tokens=(tokens,), logits=())


def raw_map(values: NDArray[np.floating]) -> NDArray[np.float32]:
    """As torch enlarges them: a map of patch values."""
    grid = torch.from_numpy(np.asarray(values, np.float32).reshape(1, 1, GRID, GRID))
    return functional.interpolate(grid, (SIZE, SIZE), mode="bilinear", align_corners=True)[0, 0].numpy()


def map_of(raw: RawScore) -> NDArray[np.float32]:
    assert raw.raw_map is not None
    return raw.raw_map


def top(found: NDArray[np.float32], share: float = 0.01) -> float:
    return float(np.sort(found, axis=None)[::-1][: max(1, int(share * found.size))].mean())


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    return write_tiny_bundle(tmp_path / "bundle")


def view(bundle: Bundle, name: str, **settings: Any) -> Bundle:
    return bundle.as_method(name, settings)


def test_memory_is_the_distance_to_the_nearest_enrolled_patch_and_the_mean_of_its_top(bundle: Bundle) -> None:
    manifest = view(bundle, "memory", top=0.05).manifest
    method = open_method(manifest, None, MemoryBank([ENROLLED["tokens_1"]]), features=ENROLLED)
    for raw, tokens in zip(method.score(outputs(QUERY)), QUERY, strict=True):
        distances = 1 - (tokens @ ENROLLED["tokens_1"].reshape(-1, WIDTH).T).max(axis=1)
        np.testing.assert_allclose(map_of(raw), raw_map(distances), atol=1e-5)
        assert raw.raw_score == pytest.approx(top(raw_map(distances), 0.05), abs=1e-5)
        assert raw.text_score is None


def test_outside_the_region_of_interest_nothing_counts(bundle: Bundle) -> None:
    inside = np.zeros((SIZE, SIZE), bool)
    inside[4:20, 8:24] = True
    for name in ("memory", "subspace"):
        manifest = view(bundle, name).manifest
        method = open_method(manifest, None, MemoryBank([ENROLLED["tokens_1"]]), inside, features=ENROLLED)
        (raw, _) = method.score(outputs(QUERY))
        assert raw.raw_map is not None
        assert not raw.raw_map[~inside].any()
        assert raw.raw_score == pytest.approx(top(raw.raw_map[inside]), abs=1e-6)


@pytest.mark.parametrize("variance", [0.8, 0.99])
def test_subspace_is_what_scikit_learns_pca_leaves_unexplained(bundle: Bundle, variance: float) -> None:
    rows = ENROLLED["tokens_1"].reshape(-1, WIDTH)
    oracle = PCA(n_components=variance, svd_solver="full").fit(rows)
    method = open_method(view(bundle, "subspace", variance=variance).manifest, None, None, features=ENROLLED)
    for raw, tokens in zip(method.score(outputs(QUERY)), QUERY, strict=True):
        left = ((tokens - oracle.inverse_transform(oracle.transform(tokens))) ** 2).sum(axis=1)
        np.testing.assert_allclose(map_of(raw), raw_map(left), atol=1e-5)
        assert raw.raw_score == pytest.approx(top(raw_map(left)), abs=1e-5)


def test_subspace_leaves_a_group_out_exactly(bundle: Bundle) -> None:
    groups = [0, 1, 1, 2, 3]
    method = open_method(view(bundle, "subspace").manifest, None, None, features=ENROLLED)
    for frame, raw in enumerate(method.leave_out(groups)):
        others = [other for other, group in enumerate(groups) if group != groups[frame]]
        oracle = PCA(n_components=0.99, svd_solver="full").fit(ENROLLED["tokens_1"][others].reshape(-1, WIDTH))
        tokens = ENROLLED["tokens_1"][frame, 0]
        left = ((tokens - oracle.inverse_transform(oracle.transform(tokens))) ** 2).sum(axis=1)
        assert raw.raw_score == pytest.approx(top(raw_map(left)), rel=1e-4)


def test_a_subspace_bank_does_not_grow_and_frames_are_added_as_if_enrolled_together(
    bundle: Bundle, tmp_path: Path
) -> None:
    seen = view(bundle, "subspace")
    bank = enrol_tiny(seen, tmp_path / "bank", shots=6)
    size = (tmp_path / "bank" / "features.safetensors").stat().st_size
    write_parts(tmp_path / "more", "....", start=2000)
    engine = open_engine(seen, threads=1)
    with open_source(tmp_path / "more") as source:
        grown = append_frames(bank, source, bundle, engine, EnrolOptions(shots=4)).bank
    assert (grown.path / "features.safetensors").stat().st_size <= size + 64
    assert len(grown.record.frames) == 10
    assert grown.record.calibration.n == 10
    former, scores = (np.array(each.record.calibration.scores, np.float32).tolist() for each in (bank, grown))
    assert set(former) <= set(scores)  # the tokens of former frames are gone, their scores stay
    together = tmp_path / "together-parts"
    write_parts(together, "......", start=1000)
    for path in write_parts(tmp_path / "rest", "....", start=2000):
        path.rename(together / f"9{path.name}")
    with open_source(together) as source:
        whole = enroll(source, seen, engine, tmp_path / "together", EnrolOptions(shots=10, augment=())).bank
    frame = new_frame(draw_part(5, defective=True), 0, "part")
    found = [Detector(bundle, engine, each).detect([frame])[0].raw_score for each in (grown, whole)]
    assert found[0] == pytest.approx(found[1], rel=1e-5)
    engine.close()


def test_a_subspace_bank_gives_back_no_frame(bundle: Bundle, tmp_path: Path) -> None:
    bank = enrol_tiny(view(bundle, "subspace"), tmp_path / "bank", shots=4)
    with pytest.raises(UsageError, match="expected --remove on a bank that keeps its frames one by one, found one of"):
        remove_frames(bank, bundle, [1])
    assert set(Bank.open(tmp_path / "bank", bundle=bundle).features) == {"scores", "count_1", "mean_1", "scatter_1"}


def test_a_subspace_of_one_frame_takes_no_further_ones(bundle: Bundle, tmp_path: Path) -> None:
    seen = view(bundle, "subspace")
    bank = enrol_tiny(seen, tmp_path / "bank", shots=1)
    write_parts(tmp_path / "more", "...", start=2000)
    engine = open_engine(seen, threads=1)
    with (
        open_source(tmp_path / "more") as source,
        pytest.raises(UsageError, match="expected --append on a subspace bank of at least 2 independent frames"),
    ):
        append_frames(bank, source, bundle, engine, EnrolOptions(shots=3))
    engine.close()


@pytest.mark.parametrize("name", ["memory", "subspace"])
def test_stages_that_the_bundle_lacks_are_refused(bundle: Bundle, name: str) -> None:
    for wanted in ((7,), ()):
        with pytest.raises(UsageError, match=r"expected stages among 1 of the bundle, found (7|none)"):
            open_method(view(bundle, name, stages=wanted).manifest, None, None, features=ENROLLED)


def test_smoothing_spreads_a_map_and_leaves_it_alone_at_zero(bundle: Bundle) -> None:
    maps = []
    for sigma in (0.0, 2.0):
        method = open_method(view(bundle, "subspace", smoothing=sigma).manifest, None, None, features=ENROLLED)
        maps.append(method.score(outputs(QUERY))[0].raw_map)
    assert maps[0] is not None
    assert maps[1] is not None
    assert maps[1].std() < maps[0].std()
    assert maps[1].mean() == pytest.approx(maps[0].mean(), rel=0.1)


def part_on_ground(number: int, at: tuple[int, int]) -> NDArray[np.float32]:
    """(1, P, C) tokens of a 3 x 3 part on a ground of another kind, a little noise on both."""
    rng = np.random.default_rng(number)
    tokens = np.zeros((GRID, GRID, WIDTH))
    tokens[..., 0] = 1
    row, column = at
    tokens[row : row + 3, column : column + 3, 0] = 0
    tokens[row : row + 3, column : column + 3, 1] = 1
    tokens += rng.normal(0, 0.05, tokens.shape)
    tokens /= np.linalg.norm(tokens, axis=-1, keepdims=True)
    return tokens.reshape(1, PATCHES, WIDTH).astype(np.float32)


def test_the_foreground_is_the_part_wherever_it_lies_and_one_cell_around_it() -> None:
    found = Foreground.of([part_on_ground(n, (2 + n % 3, 2)) for n in range(4)], (GRID, GRID))
    mask = found.mask(part_on_ground(9, (1, 3))[0])
    wanted = np.zeros((GRID, GRID), np.float32)
    wanted[0:5, 2:7] = 1
    np.testing.assert_array_equal(mask, wanted)


def test_with_foreground_a_stain_on_the_ground_is_no_anomaly_and_one_on_the_part_is(bundle: Bundle) -> None:
    tokens = np.stack([part_on_ground(n, (2, 2)) for n in range(4)])
    stained = np.stack([part_on_ground(20, (2, 2))[0], part_on_ground(21, (2, 2))[0]])
    for frame, place in ((0, (7, 7)), (1, (3, 3))):
        stain = np.zeros(WIDTH, np.float32)
        stain[[frame, 5]] = 0.6, 0.8  # still more like what it lies on
        stained[frame, place[0] * GRID + place[1]] = stain
    scores = {}
    for foreground in (False, True):
        manifest = view(bundle, "memory", foreground=foreground).manifest
        method = open_method(manifest, None, MemoryBank([tokens]), features={"tokens_1": tokens})
        scores[foreground] = [raw.raw_score for raw in method.score(outputs(stained))]
    assert scores[False][0] > 0.15
    assert scores[True][0] < 0.05
    assert scores[True][1] == pytest.approx(scores[False][1], rel=0.05)


def test_leaving_out_with_foreground_sees_the_frames_own_tokens(bundle: Bundle, tmp_path: Path) -> None:
    seen = view(bundle, "memory", foreground=True)
    bank = enrol_tiny(seen, tmp_path / "bank", shots=4)
    manifest = bundle.as_method("memory", bank.record.settings).manifest
    assert len(judge(manifest, bank.features, [1, 2, 3, 4], None).raws) == 4
    assert open_memory(manifest, bank) is not None


def test_otsus_threshold_is_where_the_variance_between_the_classes_is_largest() -> None:
    values = np.concatenate([RNG.normal(0, 1, 300), RNG.normal(6, 1, 100)]).astype(np.float32)

    def between(threshold: float) -> float:
        low, high = values[values <= threshold], values[values > threshold]
        return float(len(low) * len(high) * (low.mean() - high.mean()) ** 2)

    best = max(between(float(each)) for each in np.sort(values)[:-1])
    assert between(otsu(values)) == pytest.approx(best, rel=0.01)
    assert 2 < otsu(values) < 4
