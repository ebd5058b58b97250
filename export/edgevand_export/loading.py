"""open_clip models from a config and a weights file, without running anything that the file holds.

The weights are assigned, not copied: a float32 safetensors file stays mapped, and a model is in memory once.
"""

from __future__ import annotations

import contextlib
import logging
import zipfile
from copy import deepcopy
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from edgevand.errors import BadInputError, EdgevandError, MissingDependencyError, UnavailableError
from edgevand_export.jit_archive import is_jit_archive, read_jit_archive

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

__all__ = ["build_model", "differences", "load_state", "make_tokenizer"]

ARCHIVE_EXTRAS = ("input_resolution", "context_length", "vocab_size", "attn_mask")
"""What OpenAI's archives carry beside their weights; the mask is made again."""

SHOWN = 3


def build_model(config: dict[str, Any], weights: Path, *, quick_gelu: bool) -> Any:  # noqa: ANN401 (open_clip)
    """Build an open_clip model and load its weights.

    Args:
        config: open_clip's model config.
        weights: ``.safetensors``, or a ``.pt``/``.pth``/``.bin`` that torch reads with weights only.
        quick_gelu: whether both towers run with QuickGELU (towers of timm and Hugging Face have their own).

    Returns:
        The model in evaluation mode, float32, on the CPU, without gradients.

    Raises:
        BadInputError: a config that open_clip does not take, weights that are damaged or of another model.
        MissingDependencyError: the text tower needs a package that is not installed.
    """
    from open_clip.convert import convert_state_dict
    from open_clip.model import convert_to_custom_text_state_dict

    model = _construct(config, quick_gelu=quick_gelu)
    state = load_state(weights)
    state = convert_state_dict(model, state)
    if not hasattr(model, "positional_embedding"):
        state = convert_to_custom_text_state_dict(state)
    _fit_scalars(model, state)
    wrong = differences(model.state_dict(), state)
    if wrong:
        raise BadInputError(
            f"expected the weights of this model in {weights}, found {'; '.join(wrong)}; check that --model and "
            "--pretrained belong together"
        )
    model.load_state_dict(
        {name: each.float() if each.is_floating_point() else each for name, each in state.items()}, assign=True
    )
    _restore_masks(model)
    return model.eval().requires_grad_(False)  # noqa: FBT003 (torch's own signature)


def load_state(path: Path) -> dict[str, Tensor]:
    """Tensors of a weights file.

    Raises:
        BadInputError: it cannot be read without running code, or holds no tensors.
    """
    try:
        state = _read(path)
    except EdgevandError:
        raise
    except Exception as error:  # torch and safetensors raise errors of many kinds
        reason = " ".join(str(error).split())[:160]
        raise BadInputError(
            f"expected tensors in {path}, found a file that cannot be read with weights only ({reason}); "
            "bring the file again, or convert it to .safetensors"
        ) from error
    if isinstance(state, dict) and isinstance(state.get("state_dict"), dict):
        state = state["state_dict"]
    if not isinstance(state, dict) or not state or not all(isinstance(each, Tensor) for each in state.values()):
        raise BadInputError(
            f"expected a dictionary of tensors in {path}, found {_kind(state)}; give the weights of an open_clip model"
        )
    if all(name.startswith("module.") for name in state):  # saved from a distributed run
        state = {name.removeprefix("module."): each for name, each in state.items()}
    return {name: each for name, each in state.items() if name.rpartition(".")[2] not in ARCHIVE_EXTRAS}


def make_tokenizer(name: str, config: dict[str, Any]) -> Callable[[list[str]], Tensor]:
    """The tokenizer of a model: sentences to ids (S, context) int64.

    Args:
        name: of the model; open_clip takes SigLIP's tokenizer by name.
        config: open_clip's model config.

    Raises:
        UnavailableError: the tokenizer's files are not on this machine and cannot be fetched.
        MissingDependencyError: it needs a package that is not installed.
    """
    from open_clip.tokenizer import HFTokenizer, SigLipTokenizer, SimpleTokenizer

    text = config["text_cfg"]
    length = text.get("context_length", 77)
    extra = text.get("tokenizer_kwargs") or {}
    try:
        if text.get("hf_tokenizer_name"):
            mode = text.get("tokenizer_mode")
            tokenizer = HFTokenizer(text["hf_tokenizer_name"], context_length=length, tokenizer_mode=mode, **extra)
        elif "siglip" in name.lower():
            variant = "gemma" if "siglip2" in name.lower() else "mc4" if "i18n" in name.lower() else "c4-en"
            tokenizer = SigLipTokenizer(variant, context_length=length)
        else:
            tokenizer = SimpleTokenizer(context_length=length, **extra)
    except ImportError as error:
        raise _needs(error) from error
    except Exception as error:  # of the hub, its cache and the network: many kinds
        reason = " ".join(str(error).split())[:160]
        raise UnavailableError(
            f"expected the tokenizer of {name}, found neither its files nor a network ({reason}); "
            "choose a model with CLIP's own tokenizer, or run the export once with network"
        ) from error
    return tokenizer  # type: ignore[no-any-return]


def _construct(config: dict[str, Any], *, quick_gelu: bool) -> Any:  # noqa: ANN401
    """The network without weights; open_clip's own towers are not even allocated."""
    from open_clip.coca_model import CoCa
    from open_clip.model import CLIP, CustomTextCLIP

    wanted = deepcopy(config)
    wanted["quick_gelu"] = quick_gelu
    wanted["vision_cfg"]["timm_model_pretrained"] = False
    custom = wanted.pop("custom_text", False)
    foreign = "timm_model_name" in wanted["vision_cfg"]
    if wanted["text_cfg"].get("hf_model_name"):
        wanted["text_cfg"]["hf_model_pretrained"] = False
        custom = foreign = True
    kind = (CoCa if "multimodal_cfg" in wanted else CustomTextCLIP) if custom else CLIP
    try:
        with contextlib.nullcontext() if foreign else torch.device("meta"):
            return kind(**wanted)
    except ImportError as error:
        raise _needs(error) from error
    except (RuntimeError, ValueError, TypeError, KeyError, AssertionError, OSError) as error:
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise BadInputError(
            f"expected a model config that open_clip can build, found {reason}; correct --model"
        ) from error


def _read(path: Path) -> Any:  # noqa: ANN401
    """The file's content, mapped where the format allows it."""
    if path.suffix == ".safetensors":
        from safetensors.torch import load_file

        return load_file(path)
    if is_jit_archive(path):
        return read_jit_archive(path)
    mapped = zipfile.is_zipfile(path)
    logging.getLogger(__name__).debug("reading %s with weights only", path)
    return torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)


def _fit_scalars(model: Any, state: dict[str, Tensor]) -> None:  # noqa: ANN401
    """Logit scale and bias come with or without an axis; a model with a bias also takes weights without."""
    for name in ("logit_scale", "logit_bias"):
        own = getattr(model, name, None)
        if own is not None and name in state:
            state[name] = state[name].reshape(own.shape)
    if getattr(model, "logit_bias", None) is not None and "logit_bias" not in state:
        state["logit_bias"] = torch.zeros(model.logit_bias.shape)
    state.pop("text.transformer.embeddings.position_ids", None)


def _restore_masks(model: torch.nn.Module) -> None:
    """Make the causal masks again: they are no weights, and were not allocated."""
    for module in model.modules():
        mask = module._buffers.get("attn_mask")  # noqa: SLF001 (a buffer that no file holds)
        if mask is not None and mask.is_meta:
            module.register_buffer("attn_mask", torch.full(mask.shape, float("-inf")).triu_(1), persistent=False)


def differences(wanted: dict[str, Tensor], found: dict[str, Tensor]) -> list[str]:
    """What is wrong with a state, the first few of each kind; nothing where it fits."""
    wrong = [name for name in wanted if name in found and wanted[name].shape != found[name].shape]
    missing, unknown = [name for name in wanted if name not in found], [name for name in found if name not in wanted]
    parts = []
    if wrong:
        first = wrong[0]
        parts.append(f"{first} of shape {tuple(found[first].shape)} instead of {tuple(wanted[first].shape)}")
    if missing:
        parts.append(f"{len(missing)} tensors missing ({', '.join(missing[:SHOWN])})")
    if unknown:
        parts.append(f"{len(unknown)} tensors too many ({', '.join(unknown[:SHOWN])})")
    return parts


def _kind(state: object) -> str:
    """What a file held instead of tensors."""
    return (
        f"a dictionary of {', '.join(list(map(str, state))[:SHOWN])}"
        if isinstance(state, dict)
        else type(state).__name__
    )


def _needs(error: ImportError) -> MissingDependencyError:
    """The sentence for a package that open_clip asks for."""
    return MissingDependencyError(
        f"expected a package that this model needs, found none ({error}); install transformers and sentencepiece"
    )
