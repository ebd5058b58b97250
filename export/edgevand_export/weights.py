"""Which weights a model is to have, and where they lie on this machine.

Looked up in this order: a file that was named; ``$EDGEVAND_HOME/weights/<model>/<tag>.safetensors`` (or ``.pt``,
``.pth``, ``.bin``), which is how weights come to a machine without network; open_clip's own cache; a download.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import socket
import threading
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlparse

from edgevand.errors import BadInputError, UnavailableError, UsageError
from edgevand.home import weights_dir
from edgevand_export.own_models import OWN_MODELS, own_config, own_record, own_weights

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["ModelFiles", "fetched", "file_sha256", "find_model", "find_weights", "placed"]

SUFFIXES = (".safetensors", ".pt", ".pth", ".bin")
PATIENCE = 6.0
"""Seconds after which a network that does not answer counts as absent."""


@dataclass(frozen=True)
class ModelFiles:
    """A model to be built.

    Attributes:
        name: open_clip's name, or the config's file stem.
        config: open_clip's model config.
        pretrained: open_clip's tag, or the file name of local weights.
        weights: the weights file.
        tag: open_clip's record of the tag (mean, std, quick_gelu); empty for a file.
    """

    name: str
    config: dict[str, Any]
    pretrained: str
    weights: Path
    tag: dict[str, Any]


def find_model(model: str, pretrained: str | None) -> ModelFiles:
    """Find config and weights of ``--model`` and ``--pretrained``.

    Args:
        model: open_clip's name, or the path of a model config.
        pretrained: open_clip's tag, or the path of a weights file; None takes ``openai``, or the only tag there is.

    Raises:
        UsageError: a name, tag or combination that does not exist.
        BadInputError: a config that is none, a weights file that does not exist.
        UnavailableError: the weights are not on this machine and cannot be fetched.
    """
    return find_weights(*_config(model), pretrained)


def find_weights(name: str, config: dict[str, Any], pretrained: str | None) -> ModelFiles:
    """Find the weights of a model whose config is known; like ``find_model``."""
    import open_clip

    file = None if pretrained is None else Path(pretrained).expanduser()
    if file is not None and file.is_file():
        return ModelFiles(name, config, file.name, file, {})
    own = OWN_MODELS.get(name, ())
    tags = [*own, *open_clip.list_pretrained_tags_by_model(name)]
    tag = pretrained or _default_tag(name, tags)
    record = own_record() if tag in own else dict(open_clip.get_pretrained_cfg(name, tag) or {})
    by_hand = placed(name, tag)
    if by_hand is not None:
        return ModelFiles(name, config, tag, by_hand, record)
    if tag in own:
        return ModelFiles(name, config, tag, own_weights(name, tag), record)
    if not record and file is not None and (file.suffix in SUFFIXES or len(file.parts) > 1):
        raise BadInputError(f"expected a weights file at {pretrained}, found nothing; give its path with --pretrained")
    if not record:
        known = (
            f"one of {', '.join(tags)}" if tags else "the path of a weights file (open_clip has none for this model)"
        )
        raise UsageError(f"expected --pretrained to be {known} for {name}, found {tag!r}; choose another")
    return ModelFiles(name, config, tag, fetched(name, tag, record), record)


def fetched(name: str, tag: str, record: dict[str, Any]) -> Path:
    """Weights out of a cache, or from the network.

    Args:
        name: of the model.
        tag: of its weights.
        record: open_clip's record of them, or ``{"hf_hub": "owner/repository/file"}``.

    Raises:
        UnavailableError: they are not on this machine and cannot be fetched.
    """
    return _cached(record) or _downloaded(name, tag, record)


def file_sha256(path: Path) -> str:
    """Hex digest of a file."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _config(model: str) -> tuple[str, dict[str, Any]]:
    """Name and open_clip config of ``--model``."""
    import open_clip

    path = Path(model).expanduser()
    if path.suffix == ".json":
        return path.stem, _read_config(path)
    config = own_config() if model in OWN_MODELS else open_clip.get_model_config(model)
    if config is None:
        near = get_close_matches(model, [*OWN_MODELS, *open_clip.list_models()], n=3)
        hint = (
            f"did you mean {' or '.join(near)}?"
            if near
            else "python -c 'import open_clip; print(open_clip.list_models())' lists them"
        )
        raise UsageError(f"expected an open_clip model name or a .json config, found {model!r}; {hint}")
    return model, dict(config)


def _read_config(path: Path) -> dict[str, Any]:
    """An open_clip model config, alone or inside the file that open_clip writes for the Hugging Face hub."""
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BadInputError(f"expected an open_clip model config in {path}, found {error}; correct --model") from error
    config = record.get("model_cfg", record) if isinstance(record, dict) else None
    if not isinstance(config, dict) or not {"embed_dim", "vision_cfg", "text_cfg"} <= set(config):
        raise BadInputError(
            f"expected embed_dim, vision_cfg and text_cfg in the model config {path}, found "
            f"{', '.join(map(str, record)) if isinstance(record, dict) else type(record).__name__}; correct the file"
        )
    return config


def _default_tag(name: str, tags: list[str]) -> str:
    """The tag of a model that was named without one."""
    if "openai" in tags:
        return "openai"
    if len(tags) == 1:
        return tags[0]
    choice = f"one of {', '.join(tags)}" if tags else "the path of a weights file"
    raise UsageError(f"expected weights for {name}, found no --pretrained; give {choice}")


def placed(name: str, tag: str) -> Path | None:
    """Weights that were brought by hand."""
    if os.sep in name + tag:
        return None
    files = (weights_dir() / name / file for file in (tag, *(f"{tag}{suffix}" for suffix in SUFFIXES)))
    found: Path | None = next((file for file in files if file.is_file()), None)
    return found


def _cached(record: dict[str, Any]) -> Path | None:
    """Weights that open_clip downloaded before."""
    for repository, file in _hub_files(record):
        with contextlib.suppress(ImportError):
            from huggingface_hub import try_to_load_from_cache

            found = try_to_load_from_cache(repository, file)
            if isinstance(found, str):
                return Path(found)
    if record.get("url"):
        older = Path("~/.cache/clip", str(record["url"]).rpartition("/")[2]).expanduser()
        if older.is_file():
            return older
    return None


def _hub_files(record: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Repository and file names on the Hugging Face hub, the safe format first."""
    if record.get("hf_hub"):
        repository, file = os.path.split(record["hf_hub"])
        if file:
            yield repository, f"{Path(file).stem}.safetensors"
            yield repository, file
        else:
            yield repository, "open_clip_model.safetensors"
            yield repository, "open_clip_pytorch_model.bin"


def _address(record: dict[str, Any]) -> str:
    """Where a person finds the weights."""
    for repository, file in _hub_files(record):
        endpoint = os.environ.get("HF_ENDPOINT", "https://huggingface.co")
        return f"{endpoint}/{repository}/resolve/main/{file}"
    return str(record.get("url", ""))


def _downloaded(name: str, tag: str, record: dict[str, Any]) -> Path:
    """Fetch the weights through open_clip, or say in one sentence how to bring them."""
    from open_clip.pretrained import download_pretrained

    address = _address(record)
    reason = "the network does not answer"
    if _answers(address):
        try:
            return Path(download_pretrained(record))
        except Exception as error:  # noqa: BLE001 (of urllib, requests, httpx, the hub: many kinds)
            reason = " ".join(str(error).split())[:200]
    place = weights_dir() / name / f"{tag}.safetensors"
    raise UnavailableError(
        f"expected the weights {tag!r} of {name}, found none on this machine and could not download them ({reason}); "
        f"fetch {address} on another machine and put it at {place} (or .pt), or give the file with --pretrained"
    )


def _answers(address: str) -> bool:
    """Whether the server of an address can be reached within ``PATIENCE``; a proxy is trusted to know."""
    parts = urlparse(address)
    if any(os.environ.get(name) for name in ("https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY")):
        return True
    answered = threading.Event()

    def connect() -> None:
        """Open and close one connection."""
        with contextlib.suppress(OSError):
            port = parts.port or (80 if parts.scheme == "http" else 443)
            with socket.create_connection((parts.hostname or "", port), timeout=PATIENCE):
                answered.set()

    thread = threading.Thread(target=connect, daemon=True)
    thread.start()
    thread.join(PATIENCE)
    return answered.is_set()
