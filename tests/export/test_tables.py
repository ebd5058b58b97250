from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from open_clip.model import resize_pos_embed

from edgevand.errors import BadInputError
from edgevand_export.tables import resize_table


def table(side: int, width: int = 5) -> torch.Tensor:
    return torch.randn(side * side + 1, width, generator=torch.Generator().manual_seed(side))


@pytest.mark.parametrize(("side", "grid"), [(24, (37, 37)), (16, (37, 37)), (7, (5, 5)), (7, (9, 4))])
def test_a_table_is_resized_as_open_clip_resizes_it(side: int, grid: tuple[int, int]) -> None:
    state = {"visual.positional_embedding": table(side)}
    resize_pos_embed(state, SimpleNamespace(visual=SimpleNamespace(grid_size=grid)))
    torch.testing.assert_close(resize_table(table(side), grid), state["visual.positional_embedding"])


def test_enlarging_uses_the_antialiased_filter_which_is_not_the_plain_one() -> None:
    patches = table(24)[1:].reshape(1, 24, 24, -1).permute(0, 3, 1, 2)
    plain = torch.nn.functional.interpolate(patches, size=(37, 37), mode="bicubic", align_corners=False)
    assert (resize_table(table(24), (37, 37))[1:] - plain.permute(0, 2, 3, 1).reshape(37 * 37, -1)).abs().max() > 0.1


def test_the_class_row_stays_and_a_table_of_the_right_size_is_left_alone() -> None:
    original = table(24)
    torch.testing.assert_close(resize_table(original, (37, 37))[0], original[0], rtol=0, atol=0)
    assert resize_table(original, (24, 24)) is original


def test_a_table_of_no_square_grid_is_refused() -> None:
    with pytest.raises(BadInputError, match=r"square grid, found 6 rows"):
        resize_table(torch.zeros(7, 2), (3, 3))
