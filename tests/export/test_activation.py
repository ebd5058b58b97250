from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import pytest

from edgevand.errors import UsageError
from edgevand_export.activation import choose_activation, trained_activation
from edgevand_export.heads import Heads
from edgevand_export.weights import ModelFiles

if TYPE_CHECKING:
    from pathlib import Path

REFERENCE = Heads(())
RECORDED: dict[str, Heads] = {name: Heads((), (6,), name) for name in ("gelu", "quick-gelu")}


@pytest.mark.parametrize(
    ("heads", "trained", "openai", "resized", "wanted"),
    [
        (None, "quick-gelu", True, True, "quick-gelu"),  # without heads: what the weights were trained with
        (None, "gelu", False, True, "gelu"),
        (REFERENCE, "quick-gelu", True, True, "gelu"),  # the trap: the reference at 518 px runs with plain GELU
        (REFERENCE, "quick-gelu", True, False, "quick-gelu"),
        (REFERENCE, "quick-gelu", False, True, "quick-gelu"),
        (RECORDED["gelu"], "quick-gelu", True, False, "gelu"),  # what the heads record wins
        (RECORDED["quick-gelu"], "gelu", False, True, "quick-gelu"),
    ],
)
def test_auto_takes_what_heads_or_weights_were_trained_with(
    heads: Heads | None,
    trained: Any,
    openai: bool,  # noqa: FBT001
    resized: bool,  # noqa: FBT001
    wanted: str,
) -> None:
    assert choose_activation("auto", heads, trained=trained, openai=openai, resized=resized) == wanted


@pytest.mark.parametrize("asked", ["gelu", "quick-gelu"])
def test_what_was_asked_for_is_taken_unless_the_heads_record_the_other(asked: Literal["gelu", "quick-gelu"]) -> None:
    other = "gelu" if asked == "quick-gelu" else "quick-gelu"
    for heads in (None, REFERENCE, RECORDED[asked]):
        assert choose_activation(asked, heads, trained="gelu", openai=True, resized=True) == asked
    with pytest.raises(UsageError, match=rf"expected --activation {other}, which the heads were trained with"):
        choose_activation(asked, RECORDED[other], trained="gelu", openai=True, resized=True)


@pytest.mark.parametrize(
    ("pretrained", "tag", "config", "wanted"),
    [
        ("openai", {"quick_gelu": True}, {}, "quick-gelu"),
        ("metaclip_400m", {"quick_gelu": True}, {}, "quick-gelu"),
        ("laion2b_s32b_b79k", {}, {}, "gelu"),
        ("mine.safetensors", {}, {"quick_gelu": True}, "quick-gelu"),
        ("mine.safetensors", {}, {}, "gelu"),
    ],
)
def test_the_tag_or_the_config_says_what_weights_were_trained_with(
    pretrained: str, tag: dict[str, Any], config: dict[str, Any], wanted: str, tmp_path: Path
) -> None:
    weights = tmp_path / "weights.safetensors"
    weights.write_bytes(b"")
    assert trained_activation(ModelFiles("model", config, pretrained, weights, tag)) == wanted
