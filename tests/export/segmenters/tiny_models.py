"""Small CLIPSeg and SAM models of transformers, with random weights that no default could hide behind."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from transformers import CLIPSegConfig, CLIPSegForImageSegmentation, SamConfig, SamModel

if TYPE_CHECKING:
    from pathlib import Path

SAM_SIDE = 64


def clipseg_model(*, refined: bool) -> Any:
    """A CLIPSeg of four layers; its patches have 8 px, or 16 where the decoder is the refined one."""
    config = CLIPSegConfig(
        text_config={
            "hidden_size": 24,
            "intermediate_size": 48,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
        },
        vision_config={
            "hidden_size": 32,
            "intermediate_size": 48,
            "num_hidden_layers": 4,
            "num_attention_heads": 4,
            "patch_size": 16 if refined else 8,
            "image_size": 32,
        },
        projection_dim=20,
        reduce_dim=16,
        extract_layers=[0, 1, 2],
        decoder_num_attention_heads=4,
        decoder_intermediate_size=40,
        use_complex_transposed_convolution=refined,
    )
    return _moved(CLIPSegForImageSegmentation(config))


def sam_model() -> Any:
    """A SAM of two layers, one with windows and one without."""
    config = SamConfig(
        vision_config={
            "hidden_size": 32,
            "output_channels": 16,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "image_size": SAM_SIDE,
            "patch_size": 8,
            "window_size": 3,
            "global_attn_indexes": [1],
            "mlp_dim": 64,
            "num_pos_feats": 8,
        },
        prompt_encoder_config={
            "hidden_size": 16,
            "image_size": SAM_SIDE,
            "patch_size": 8,
            "mask_input_channels": 4,
        },
        mask_decoder_config={
            "hidden_size": 16,
            "mlp_dim": 32,
            "num_attention_heads": 2,
            "iou_head_hidden_dim": 16,
            "num_hidden_layers": 2,
        },
    )
    return _moved(SamModel(config))


def save_model(model: Any, folder: Path) -> Path:
    """Write a model as transformers does."""
    model.save_pretrained(folder)
    return folder


def _moved(model: Any) -> Any:
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return model.eval()
