"""SAM's two graphs against transformers' own model."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch

from edgevand.errors import BadInputError
from edgevand_export.segmenters.sam import SamDecoder, SamEncoder, load_sam
from edgevand_export.segmenters.weights import read_weights
from tests.export.segmenters.tiny_models import SAM_SIDE, clipseg_model, sam_model, save_model

if TYPE_CHECKING:
    from pathlib import Path


@torch.no_grad()
def test_points_in_a_batch_get_the_librarys_masks(tmp_path: Path) -> None:
    model = sam_model()
    loaded = load_sam(read_weights(save_model(model, tmp_path / "sam")))
    image = torch.randn(1, 3, SAM_SIDE, SAM_SIDE)
    points = torch.rand(5, 2) * SAM_SIDE
    embedding = SamEncoder(loaded)(image)
    torch.testing.assert_close(embedding, model.get_image_embeddings(image), atol=1e-5, rtol=0)
    logits, predicted = SamDecoder(loaded)(embedding, points)
    wanted = model(
        pixel_values=image,
        input_points=points[None, :, None],
        input_labels=torch.ones(1, len(points), 1, dtype=torch.long),
        multimask_output=True,
    )
    torch.testing.assert_close(logits, wanted.pred_masks[0], atol=1e-5, rtol=0)
    torch.testing.assert_close(predicted, wanted.iou_scores[0], atol=1e-5, rtol=0)


def test_weights_of_another_architecture_are_refused_in_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match=r"expected SAM's weights as transformers saves them in .*, found no"):
        load_sam(read_weights(save_model(clipseg_model(refined=False), tmp_path / "clipseg")))
    folder = save_model(sam_model(), tmp_path / "sam")
    (folder / "config.json").unlink()
    with pytest.raises(BadInputError, match=r"expected the weights of SAM in .*, found .*; give the file"):
        load_sam(read_weights(folder))
