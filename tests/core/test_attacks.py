"""Every attack on a bundle or a bank is refused with one sentence, and nothing of it is used."""

from __future__ import annotations

import resource
import shutil
from typing import TYPE_CHECKING

import pytest

from edgevand.bank import Bank
from edgevand.bundle import Bundle
from edgevand.errors import BadInputError, FormatError
from tests.core.attacks import ON_BANKS, ON_BUNDLES
from tests.core.builders import make_bank, make_bundle

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """The bundle that is copied and spoiled."""
    return make_bundle(tmp_path_factory.mktemp("attacks") / "bundle")


@pytest.fixture(scope="module")
def bank(bundle: Bundle) -> Bank:
    """The bank that is copied and spoiled."""
    return make_bank(bundle.path.parent / "bank", bundle)


def refused(error: BadInputError, path: Path) -> None:
    """Check the sentence: it names the place, says what to do after a semicolon, and is one line for a person."""
    message = str(error)
    assert str(path) in message
    assert "; " in message
    assert "\n" not in message
    assert len(message) < 600
    assert error.exit_code == 2


@pytest.mark.parametrize("attack", ON_BUNDLES)
def test_a_spoiled_bundle_is_refused(tmp_path: Path, bundle: Bundle, attack: str) -> None:
    path = tmp_path / "bundle"
    shutil.copytree(bundle.path, path)
    Bundle.open(path).golden()
    ON_BUNDLES[attack](path)
    kind = BadInputError if attack == "no record" else FormatError
    with pytest.raises(kind) as caught:
        Bundle.open(path).golden()
    refused(caught.value, path)


@pytest.mark.parametrize("attack", ON_BANKS)
def test_a_spoiled_bank_is_refused(tmp_path: Path, bundle: Bundle, bank: Bank, attack: str) -> None:
    path = tmp_path / "bank"
    shutil.copytree(bank.path, path)
    Bank.open(path, bundle)
    ON_BANKS[attack](path)
    kind = BadInputError if attack == "no record" else FormatError
    with pytest.raises(kind) as caught:
        Bank.open(path, bundle)
    refused(caught.value, path)


def test_a_claim_of_10_gb_is_refused_without_memory_for_it(tmp_path: Path, bundle: Bundle) -> None:
    """With room for half a gigabyte more than there is, the refusal is still the sentence and no MemoryError."""
    limits = resource.getrlimit(resource.RLIMIT_AS)
    with open("/proc/self/statm", encoding="ascii") as file:  # noqa: PTH123
        present = int(file.read().split()[0]) * resource.getpagesize()
    for attack in ("a text header of 10 GB", "a text tensor of 10 GB"):
        path = tmp_path / attack
        shutil.copytree(bundle.path, path)
        ON_BUNDLES[attack](path)
        resource.setrlimit(resource.RLIMIT_AS, (present + (1 << 29), limits[1]))
        try:
            with pytest.raises(FormatError):
                Bundle.open(path)
        finally:
            resource.setrlimit(resource.RLIMIT_AS, limits)
