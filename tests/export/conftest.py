"""Bundles of the three kinds of tower, each exported once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

pytest.importorskip("open_clip", reason="exporting needs the extra edgevand[export]")

import open_clip

from edgevand_export.bundle_writer import BundleOptions, write_model_bundle
from edgevand_export.towers import make_tower
from tests.export.models import SIZE, random_heads, source_of, tiny_config, tiny_model

if TYPE_CHECKING:
    from collections.abc import Callable

    from edgevand.bundle import Bundle


@pytest.fixture(scope="session")
def tokenizer() -> Any:
    """CLIP's own tokenizer; its vocabulary comes with open_clip."""
    return open_clip.tokenizer.SimpleTokenizer(context_length=77)


@pytest.fixture(scope="session")
def exported(tmp_path_factory: pytest.TempPathFactory, tokenizer: Any) -> Callable[[str], tuple[Any, Bundle]]:
    """``exported(kind)``: a tiny model and its bundle, with heads, for two objects."""
    done: dict[str, tuple[Any, Bundle]] = {}

    def export(kind: str) -> tuple[Any, Bundle]:
        if kind not in done:
            config = tiny_config(kind)
            model = tiny_model(config)
            heads = random_heads(make_tower(model.visual, SIZE[kind]).widths)
            options = BundleOptions(SIZE[kind], heads=heads, objects=("part", "metal nut"))
            target = tmp_path_factory.mktemp("bundles") / kind
            done[kind] = (model, write_model_bundle(target, model, tokenizer, source_of(config), options))
        return done[kind]

    return export
