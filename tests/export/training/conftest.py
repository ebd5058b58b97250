"""A drawn dataset, tiny models and a short prompts file, made once; a run with them takes a second."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

pytest.importorskip("open_clip", reason="training needs the extra edgevand[export]")

import torch

from tests.export.training.workshop import Workshop, make_workshop

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """Tiny products are slower with several threads."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Workshop:
    """Data and models that no test changes."""
    return make_workshop(tmp_path_factory.mktemp("workshop"))
