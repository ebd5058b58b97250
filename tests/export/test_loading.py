from __future__ import annotations

import pickle
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from edgevand.errors import BadInputError, MissingDependencyError, UnavailableError
from edgevand_export import loading
from edgevand_export.jit_archive import is_jit_archive
from edgevand_export.loading import build_model, load_state, make_tokenizer
from tests.export.models import picture_batch, save_weights, tiny_config, tiny_model


@torch.no_grad()
def check_same(built: Any, model: Any, tokenizer: Any, size: int) -> None:
    image, ids = picture_batch(1, (size, size)), tokenizer(["a photo of a part."])
    torch.testing.assert_close(built.encode_image(image), model.encode_image(image))
    torch.testing.assert_close(built.encode_text(ids), model.encode_text(ids))
    assert not any(each.is_meta or each.requires_grad for each in (*built.parameters(), *built.buffers()))


@pytest.mark.parametrize(("kind", "custom_text"), [("vit", False), ("vit", True), ("resnet", False), ("timm", True)])
def test_a_model_built_from_its_weights_computes_what_the_model_computed(
    kind: str,
    custom_text: bool,  # noqa: FBT001
    tokenizer: Any,
    tmp_path: Path,
) -> None:
    config = {**tiny_config(kind), "custom_text": custom_text}
    model = tiny_model(tiny_config(kind), custom_text=custom_text)
    path = save_weights(model, tmp_path / "w.safetensors")
    check_same(build_model(config, path, quick_gelu=False), model, tokenizer, config["vision_cfg"]["image_size"])


def test_quick_gelu_is_what_was_asked_for_in_both_towers(tokenizer: Any, tmp_path: Path) -> None:
    config = tiny_config("vit")
    path = save_weights(tiny_model(config), tmp_path / "w.safetensors")
    check_same(build_model(config, path, quick_gelu=True), tiny_model(config, quick_gelu=True), tokenizer, 32)


@pytest.mark.parametrize("form", ["plain", "state_dict", "distributed", "old", "half"])
def test_pytorch_files_are_read_in_all_their_usual_forms(form: str, tokenizer: Any, tmp_path: Path) -> None:
    config = tiny_config("vit")
    model = tiny_model(config)
    state: Any = dict(model.state_dict())
    if form == "half":
        model.load_state_dict({name: each.half().float() for name, each in state.items()})
        state = {name: each.half() for name, each in state.items()}
    if form == "distributed":
        state = {f"module.{name}": each for name, each in state.items()}
    path = tmp_path / "w.pt"
    content = {"epoch": 3, "state_dict": state} if form in ("state_dict", "distributed") else state
    torch.save(content, path, _use_new_zipfile_serialization=form != "old")
    built = build_model(config, path, quick_gelu=False)
    check_same(built, model, tokenizer, 32)
    assert all(each.dtype == torch.float32 for each in built.parameters())


def archive(model: Any, path: Path) -> Path:
    """A TorchScript archive such as OpenAI published: a traced model with a few integers beside its weights."""
    ids = torch.zeros(1, 77, dtype=torch.int64)
    for name, number in (("input_resolution", 32), ("context_length", 77), ("vocab_size", 49408)):
        model.__dict__.pop(name, None)
        model.register_buffer(name, torch.tensor(number))
    traced: Any = torch.jit.trace(  # type: ignore[no-untyped-call]
        model, (picture_batch(1, (32, 32)), ids), check_trace=False
    )
    torch.jit.save(traced, path)
    return path


@pytest.mark.filterwarnings("ignore")
def test_a_torchscript_archive_is_read_without_its_program(
    tokenizer: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tiny_model(tiny_config("vit"))
    path = archive(model, tmp_path / "w.pt")
    monkeypatch.setattr(torch.jit, "load", None)
    assert is_jit_archive(path)
    check_same(build_model(tiny_config("vit"), path, quick_gelu=False), model, tokenizer, 32)


class Payload:
    """Writes a file when it is unpickled."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Any, ...]:
        """What an unpickler would run."""
        return (Path.touch, (self.target,))


def test_nothing_that_a_file_holds_is_run(tmp_path: Path) -> None:
    payload = Payload(tmp_path / "ran")
    torch.save({"visual.proj": payload}, tmp_path / "zip.pt")
    (tmp_path / "old.pt").write_bytes(pickle.dumps({"visual.proj": payload}))
    with zipfile.ZipFile(tmp_path / "script.pt", "w") as file:
        file.writestr("m/constants.pkl", b"")
        file.writestr("m/data.pkl", pickle.dumps(payload))
    for name in ("zip.pt", "old.pt", "script.pt"):
        with pytest.raises(BadInputError):
            load_state(tmp_path / name)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("name", ["w.safetensors", "w.pt"])
@pytest.mark.parametrize("content", [b"", b"no weights at all", b"\xff" * 200])
def test_a_file_that_holds_no_weights_is_one_sentence(name: str, content: bytes, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(BadInputError, match=r"expected tensors in .*cannot be read with weights only"):
        load_state(tmp_path / name)


def test_a_file_of_other_things_says_what_it_holds(tmp_path: Path) -> None:
    torch.save({"epoch": 3}, tmp_path / "w.pt")
    with pytest.raises(BadInputError, match=r"found a dictionary of epoch"):
        load_state(tmp_path / "w.pt")


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"visual.proj": None}, r"1 tensors missing \(visual.proj\)"),
        ({"extra": torch.zeros(1)}, r"1 tensors too many \(extra\)"),
        ({"visual.proj": torch.zeros(2, 2)}, r"visual.proj of shape \(2, 2\) instead of \(32, 24\)"),
    ],
)
def test_weights_of_another_model_say_what_differs(change: dict[str, Any], sentence: str, tmp_path: Path) -> None:
    state = {**tiny_model(tiny_config("vit")).state_dict(), **change}
    save_file({name: each.contiguous() for name, each in state.items() if each is not None}, tmp_path / "w.safetensors")
    with pytest.raises(BadInputError, match=sentence):
        build_model(tiny_config("vit"), tmp_path / "w.safetensors", quick_gelu=False)


def test_a_config_that_open_clip_cannot_build_is_one_sentence(tmp_path: Path) -> None:
    config = tiny_config("vit", depth=3)
    with pytest.raises(BadInputError, match=r"expected a model config that open_clip can build, found .*depth"):
        build_model(config, tmp_path / "none", quick_gelu=False)


def test_a_text_tower_of_a_package_that_is_absent_names_the_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(**options: Any) -> None:
        raise ImportError("transformers is not installed")

    monkeypatch.setattr("open_clip.model.CustomTextCLIP", missing)
    config = {**tiny_config("vit"), "text_cfg": {"hf_model_name": "roberta-base"}}
    with pytest.raises(MissingDependencyError, match=r"transformers"):
        build_model(config, tmp_path / "none", quick_gelu=False)


def test_a_tokenizer_that_cannot_be_fetched_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(*arguments: Any, **options: Any) -> None:
        raise OSError("cannot\nconnect")

    monkeypatch.setattr("open_clip.tokenizer.HFTokenizer", offline)
    with pytest.raises(UnavailableError, match=r"neither its files nor a network \(cannot connect\)"):
        make_tokenizer("m", {"text_cfg": {"hf_tokenizer_name": "some/tokenizer"}})


def test_clips_own_tokenizer_needs_no_network() -> None:
    ids = loading.make_tokenizer("ViT-L-14-336", {"text_cfg": {"context_length": 77}})(["a photo of a metal_nut."])
    assert ids.shape == (1, 77)
    assert ids[0, 0] == 49406
    assert ids[0, -1] == 0
