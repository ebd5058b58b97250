"""``auto`` takes the first engine that is proved on this device; a person's choice goes before it, with a warning."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest

from edgevand.cli import main
from edgevand.errors import GateError, MissingDependencyError, UnavailableError, UsageError
from edgevand_runtime.detector import Detector
from edgevand_runtime.doctor import processor
from edgevand_runtime.engines import EncoderOutput, choose, open_engine, proofs
from edgevand_runtime.engines.choose import ENGINES, EngineKind
from edgevand_runtime.engines.onnxruntime import OnnxRuntimeEngine
from tests.core.builders import make_bank, make_bundle
from tests.tiny import write_tiny_bundle

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from edgevand.bundle import Bundle, Precision


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    return write_tiny_bundle(tmp_path / "bundle", heads=True, objects=["bottle"])


class Engine:
    """ONNX Runtime's outputs, moved by a constant."""

    def __init__(self, bundle: Bundle, name: str, precision: Precision, error: float) -> None:
        self._engine = OnnxRuntimeEngine(bundle.graph_path, bundle.manifest, threads=1)
        self.name = name
        self.precision = precision
        self.closed = False
        self._error = error

    def run(self, images: NDArray[np.float32], text: NDArray[np.float32] | None) -> EncoderOutput:
        found = self._engine.run(images, text)
        return EncoderOutput(found.embedding + self._error, found.tokens, found.logits)

    def close(self) -> None:
        self.closed = True


@dataclass
class Library:
    """Opens such engines and remembers them; or is not there."""

    name: str
    error: float = 0.0
    fault: Exception | None = None
    devices: tuple[str, ...] = ("cpu",)
    built: bool = False
    opened: list[Engine] = field(default_factory=list)

    def open(self, bundle: Bundle, device: str, precision: Precision, _: int | None) -> Engine:
        if self.fault is not None:
            raise self.fault
        self.opened.append(Engine(bundle, f"{self.name}:{device}", precision, self.error))
        return self.opened[-1]

    @property
    def kind(self) -> EngineKind:
        families = tuple(dict.fromkeys(device.partition(":")[0] for device in self.devices))
        return EngineKind(self.name, families, lambda: list(self.devices), self.open, families, built=self.built)


def offer(monkeypatch: pytest.MonkeyPatch, *libraries: Library) -> None:
    """Make these the table of engines, and forget what was proved in this process."""
    monkeypatch.setattr(choose, "ENGINES", {library.name: library.kind for library in libraries})
    monkeypatch.setattr(proofs, "_of_this_process", {})


def test_auto_takes_the_first_and_proves_it_once_in_one_line(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    first, second = Library("first"), Library("second")
    offer(monkeypatch, first, second)
    assert open_engine(bundle).name == "first:cpu"
    assert [record.getMessage() for record in caplog.records] == [
        "first run of this bundle on first:cpu in fp32: proving it, once"
    ]
    caplog.clear()
    offer(monkeypatch, first, second)  # as in a new process: the proof is on the disk

    def never(*_: Any, **__: Any) -> None:
        pytest.fail("proved again")

    monkeypatch.setattr(proofs, "check_parity", never)
    assert open_engine(bundle).name == "first:cpu"
    assert caplog.records == []
    assert second.opened == []


def test_an_engine_that_computes_something_else_is_passed_over_and_closed(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    wrong, right = Library("wrong", error=0.1), Library("right")
    offer(monkeypatch, wrong, right)
    for _ in range(2):  # the second time by the proof on the disk
        assert open_engine(bundle).name == "right:cpu"
        assert "wrong:cpu is passed over: expected wrong:cpu to compute in fp32" in caplog.text
        assert "embedding differ" in caplog.text
        caplog.clear()
        monkeypatch.setattr(proofs, "_of_this_process", {})
    assert all(engine.closed for engine in wrong.opened)
    assert len(wrong.opened) == 2


def test_an_engine_that_was_chosen_by_hand_runs_whatever_its_proof_says_with_a_warning(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    offer(monkeypatch, Library("wrong", error=0.1), Library("right"))
    assert open_engine(bundle, backend="wrong").name == "wrong:cpu"
    assert "wrong:cpu in fp32 was never proved on this device" in caplog.text
    assert f"edgevand verify {bundle.path} --backend wrong --precision fp32" in caplog.text
    caplog.clear()
    open_engine(bundle)
    caplog.clear()
    assert open_engine(bundle, backend="wrong").name == "wrong:cpu"
    assert "wrong:cpu computes in fp32 something else than PyTorch did: embedding differ" in caplog.text
    caplog.clear()
    assert open_engine(bundle, backend="right").name == "right:cpu"
    assert caplog.text == ""


def test_where_none_computes_what_it_should_auto_refuses_with_the_engine_and_the_output(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    offer(monkeypatch, Library("wrong", error=0.1), Library("absent", fault=UnavailableError("not here")))
    with pytest.raises(GateError, match=r"expected wrong:cpu to compute .* but embedding differ.*--backend"):
        open_engine(bundle)


def test_auto_says_what_does_not_start_but_nothing_of_an_engine_that_nobody_built(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    unbuilt = Library("unbuilt", fault=UnavailableError("no engine"), devices=("cuda:0",), built=True)
    broken = Library("broken", fault=UnavailableError("driver too old"), devices=("cuda:0",))
    offer(monkeypatch, unbuilt, broken, Library("plain"))
    open_engine(bundle)
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        assert open_engine(bundle).name == "plain:cpu"
    assert [record.getMessage() for record in caplog.records] == ["broken:cuda:0 is passed over: driver too old"]


def test_auto_keeps_to_the_device_that_was_asked_for(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    offer(monkeypatch, Library("gpus", devices=("cuda:0", "cuda:1", "cpu")), Library("cpus"))
    assert open_engine(bundle).name == "gpus:cuda:0"
    assert open_engine(bundle, device="cuda").name == "gpus:cuda:0"
    assert open_engine(bundle, device="cuda:1").name == "gpus:cuda:1"
    assert open_engine(bundle, device="cpu").name == "gpus:cpu"
    assert open_engine(bundle, backend="cpus").name == "cpus:cpu"


def test_graphics_processors_come_before_the_processor_whatever_the_order_of_the_table(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    offer(monkeypatch, Library("cpus"), Library("gpus", devices=("cuda:0",)))
    assert open_engine(bundle).name == "gpus:cuda:0"


def test_the_table_names_every_kind_by_its_own_name_and_finds_the_processor_here() -> None:
    assert list(ENGINES) == [kind.name for kind in ENGINES.values()]
    assert {"onnxruntime", "openvino", "tensorrt", "tensorrt-rtx"} <= set(ENGINES)
    assert "cpu" in ENGINES["onnxruntime"].devices()
    for kind in ENGINES.values():
        assert {device.partition(":")[0] for device in kind.devices()} <= set(kind.families)
        assert set(kind.auto) <= set(kind.families)


@pytest.mark.parametrize("backend", ["tensorrt", "tensorrt-rtx", "onnxruntime-tensorrt", "onnxruntime-openvino"])
def test_a_library_or_gpu_that_is_not_here_is_unavailable_in_one_sentence(backend: str, bundle: Bundle) -> None:
    if ENGINES[backend].devices():
        pytest.skip("it is here")
    with pytest.raises((UnavailableError, MissingDependencyError), match=r"^expected .* found .*") as told:
        open_engine(bundle, backend=backend)
    assert "\n" not in str(told.value)


def test_a_bank_used_in_another_precision_is_warned_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    bundle = make_bundle(tmp_path / "bundle")
    record = make_bank(tmp_path / "bank", bundle, object_name="object")
    open_engine(bundle)
    caplog.clear()
    Detector.open(bundle, record, precision="fp32", threads=1).close()
    Detector.open(bundle, record, threads=1).close()
    assert caplog.text == ""
    other = replace_precision(record, "fp16")
    Detector.open(bundle, other, precision="fp32", threads=1).close()
    assert "the bank was enrolled in fp16" in caplog.text

    caplog.clear()
    with pytest.raises(UsageError, match="expected --precision fp32"):
        Detector.open(bundle, record, precision="int8", threads=1)
    assert not caplog.text
    with pytest.raises(UsageError, match="found fp16"):  # the bank's own, which this bundle has no graph for
        Detector.open(bundle, other, threads=1)


def replace_precision(bank: Any, precision: Precision) -> Any:
    bank.record = bank.record.model_copy(update={"precision": precision})
    return bank


def test_int8_is_refused_before_it_ends_the_process_where_amx_traps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = write_tiny_bundle(tmp_path / "int8", precision="int8")
    offer(monkeypatch, Library("onnxruntime"), Library("openvino"))
    monkeypatch.setattr(processor, "amx_traps", lambda: True)
    monkeypatch.delenv("ONEDNN_MAX_CPU_ISA", raising=False)
    with pytest.raises(UnavailableError, match=r"found that it traps; .*ONEDNN_MAX_CPU_ISA=AVX512_CORE_BF16"):
        open_engine(bundle)
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "AVX512_CORE_BF16")
    assert open_engine(bundle).name == "openvino:cpu"
    monkeypatch.setattr(processor, "amx_traps", lambda: False)
    assert open_engine(bundle).name == "onnxruntime:cpu"


def test_verify_leaves_the_proof_that_auto_asks_for(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    offer(monkeypatch, Library("first"), Library("wrong", error=0.1))
    assert main(["verify", str(bundle.path), "--backend", "first"]) == 0
    assert "parity on first:cpu in fp32" in capfd.readouterr().out
    assert main(["verify", str(bundle.path), "--backend", "all", "--json"]) == 1
    out, err = capfd.readouterr()
    assert '"engine": "wrong:cpu"' in out
    assert "embedding on wrong:cpu in fp32" in err
    monkeypatch.setattr(proofs, "_of_this_process", {})
    monkeypatch.setattr(proofs, "check_parity", None)
    assert open_engine(bundle).name == "first:cpu"


def test_an_unknown_precision_on_the_command_line_is_wrong_usage(
    bundle: Bundle, capfd: pytest.CaptureFixture[str]
) -> None:
    for arguments in (["verify", str(bundle.path)], ["score", "x.png", "--bundle", str(bundle.path)], ["demo"]):
        assert main([*arguments, "--precision", "fp64"]) == 2
        sentence = "edgevand: expected --precision auto, fp32 or fp16 or int8, found 'fp64'; choose one\n"
        assert capfd.readouterr().err == sentence
