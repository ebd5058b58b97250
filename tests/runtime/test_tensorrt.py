"""TensorRT engines against a fake of the library and of CuPy (``fake_gpu``): what is built, refused, and computed."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from edgevand.errors import FormatError, GateError, MissingDependencyError, OutputError, UnavailableError, UsageError
from edgevand.home import home
from edgevand_runtime.engines import choose, cuda_driver, gpu, machine, open_engine
from edgevand_runtime.engines.cuda_driver import CudaDevice, CudaDriver
from edgevand_runtime.engines.engine_files import engine_path, read_engine_record, record_path
from edgevand_runtime.engines.onnxruntime import OnnxRuntimeEngine
from edgevand_runtime.engines.tensorrt import TensorRTEngine, open_tensorrt
from edgevand_runtime.engines.tensorrt_build import BuildOptions, build_engine
from tests.tiny import SIZE, write_tiny_bundle

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    Ready = Callable[..., Path]

    from edgevand.bundle import Bundle

FAKES = Path(__file__).parent / "fake_gpu"
MODULES = ("cupy", "tensorrt", "tensorrt_rtx")
ADA = CudaDriver((12, 8), (CudaDevice("NVIDIA RTX 4090", (8, 9), 24 << 30),))


@pytest.fixture(autouse=True)
def _fakes(monkeypatch: pytest.MonkeyPatch) -> Any:
    """An RTX 4090 with TensorRT, TensorRT-RTX and CuPy, in this process and in those that it starts."""
    monkeypatch.syspath_prepend(FAKES)
    for name in MODULES:
        monkeypatch.delitem(sys.modules, name, raising=False)
    plug_in(monkeypatch, ADA)
    yield
    for name in MODULES:
        sys.modules.pop(name, None)


def plug_in(monkeypatch: pytest.MonkeyPatch, driver: CudaDriver | None) -> None:
    monkeypatch.setattr(cuda_driver, "cuda_driver", lambda: driver)
    monkeypatch.setattr(gpu, "cuda_driver", lambda: driver)
    monkeypatch.setattr(choose, "cuda_driver", lambda: driver)
    monkeypatch.setattr(machine, "cuda_driver", lambda: driver)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return write_tiny_bundle(tmp_path_factory.mktemp("model") / "bundle", heads=True, objects=("part",))


@pytest.fixture(scope="module")
def _shelf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Engines that were built once, by their options, for the tests that only need one."""
    return tmp_path_factory.mktemp("shelf")


@pytest.fixture
def ready(bundle: Bundle, _shelf: Path) -> Ready:
    """``ready(**options)``: the engine of the bundle is in the cache of this test; its path."""

    def place(**options: Any) -> Path:
        kept = _shelf / "-".join(["engine", *map(str, options.values())])
        if not kept.exists():
            built(bundle, **options)
            shutil.copytree(home() / "engines", kept)
        else:
            shutil.copytree(kept, home() / "engines")
        return engine_path(bundle, options.get("backend", "tensorrt"), "sm89", "fp32")

    return place


def fault(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    monkeypatch.setenv("FAKE_TENSORRT", ",".join(names))


def built(bundle: Bundle, **options: Any) -> Path:
    return build_engine(bundle, BuildOptions(**options)).path


def opened(bundle: Bundle, flavour: Any = "tensorrt") -> TensorRTEngine:
    return open_tensorrt(bundle, "auto", None, flavour)


def frames(count: int) -> NDArray[np.float32]:
    return np.random.default_rng(3).normal(size=(count, 3, SIZE, SIZE)).astype(np.float32)


def leavings(folder: Path) -> list[str]:
    """Names below a folder, but for locks, which stay empty."""
    found = [path for path in folder.rglob("*") if path.is_file()]
    assert all(path.stat().st_size == 0 for path in found if path.suffix == ".lock")
    return sorted(path.name for path in found if path.suffix != ".lock")


# What is built


def test_a_build_ends_with_parity_on_the_gpu_and_a_record_of_all_it_depends_on(bundle: Bundle) -> None:
    made = build_engine(bundle, BuildOptions(batch=4, workspace_mb=256))
    record = made.record
    assert not made.reused
    assert made.path == engine_path(bundle, "tensorrt", "sm89", "fp32")
    assert (record.library, record.library_version, record.target) == ("tensorrt", "10.13.0", "sm89")
    assert (record.gpu, record.driver, record.bundle) == ("NVIDIA RTX 4090", "12.8", bundle.hash)
    assert record.parity is not None
    assert {check.name for check in record.parity} == {"embedding", "tokens_1", "logits_1", "map", "score"}
    assert all(check.passed and check.max_abs is not None and check.max_abs < 1e-4 for check in record.parity)
    plan = json.loads(made.path.read_bytes())
    assert plan["profile"] == [[1, 3, SIZE, SIZE], [4, 3, SIZE, SIZE], [4, 3, SIZE, SIZE]]
    assert plan["workspace"] == 256 << 20
    assert plan["targets"] == [], "the GPU at hand is built for as it is"


def test_networks_are_strongly_typed_and_compute_without_tf32(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = json.loads(built(bundle).read_bytes())
    assert plan["network flags"] == 1 << 1
    assert plan["flags"] == []
    from edgevand_runtime.engines.tensorrt_compile import _network_flags

    class Eleven:
        """TensorRT 11, which has no other networks and no word for it."""

        class NetworkDefinitionCreationFlag:
            pass

    assert _network_flags(Eleven) == 0


def test_kernel_times_are_kept_for_the_next_build(bundle: Bundle, tmp_path: Path) -> None:
    other = write_tiny_bundle(tmp_path / "other", seed=1)
    assert json.loads(built(bundle).read_bytes())["timings"] == ""
    assert json.loads(built(other).read_bytes())["timings"] == "t"


def test_an_engine_that_is_there_is_not_built_again(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    first = build_engine(bundle, BuildOptions())
    fault(monkeypatch, "build-none")
    again = build_engine(bundle, BuildOptions())
    assert again.reused
    assert again.record == first.record


def test_an_engine_for_another_gpu_is_unproved_until_it_is_there(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    plug_in(monkeypatch, None)
    made = build_engine(bundle, BuildOptions(target="sm89"))
    assert (made.record.library, made.record.gpu, made.record.driver) == ("tensorrt-rtx", None, None)
    assert made.record.parity is None
    assert json.loads(made.path.read_bytes())["targets"] == ["SM89"]
    plug_in(monkeypatch, ADA)
    assert opened(bundle, "tensorrt-rtx").name == "tensorrt-rtx:cuda:0"
    proved = build_engine(bundle, BuildOptions(backend="tensorrt-rtx"))
    assert proved.reused
    assert proved.record.parity is not None
    assert proved.record.plan == made.record.plan


@pytest.mark.parametrize("target", ["sm87", "sm121"])
def test_a_target_that_the_library_does_not_offer_is_refused_with_those_it_does(bundle: Bundle, target: str) -> None:
    with pytest.raises(UnavailableError, match=f"one of sm86, sm89, found {target}"):
        build_engine(bundle, BuildOptions(backend="tensorrt-rtx", target=target))
    with pytest.raises(UnavailableError, match=f"the GPU at hand, .* found {target}"):
        build_engine(bundle, BuildOptions(backend="tensorrt", target=target))


def test_an_engine_that_computes_something_else_is_not_kept(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    run = TensorRTEngine.run

    def skewed(engine: TensorRTEngine, images: NDArray[np.float32], text: NDArray[np.float32] | None) -> Any:
        found = run(engine, images, text)
        return replace(found, embedding=-found.embedding)

    monkeypatch.setattr(TensorRTEngine, "run", skewed)
    with pytest.raises(GateError, match=r"on NVIDIA RTX 4090 what torch computed at export, but embedding.* differ"):
        built(bundle)
    assert not engine_path(bundle, "tensorrt", "sm89", "fp32").exists()


def test_output_goes_where_it_is_told_and_nothing_else_is_replaced(bundle: Bundle, tmp_path: Path) -> None:
    target = tmp_path / "place" / "mine.engine"
    assert built(bundle, output=target) == target
    assert record_path(target).is_file()
    assert build_engine(bundle, BuildOptions(output=target)).reused
    other = tmp_path / "letter.txt"
    other.write_text("dear")
    with pytest.raises(OutputError, match="found something else"):
        built(bundle, output=other)
    assert other.read_text() == "dear"


# What a build fails at


def test_a_graph_that_the_parser_does_not_know_is_named_with_its_node(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    fault(monkeypatch, "parse")
    with pytest.raises(FormatError, match=r"tensorrt 10.13.0 to understand the graph, found: .*no importer for Gelu"):
        built(bundle)


def test_a_builder_that_gives_up_is_quoted(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    fault(monkeypatch, "build-none")
    with pytest.raises(UnavailableError, match="found: Error Code 10: Could not find any implementation for node Gelu"):
        built(bundle)


def test_out_of_memory_at_build_says_by_how_much(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    fault(monkeypatch, "build-memory")
    monkeypatch.setenv("FAKE_GPU_FREE", str(4 << 30))
    with pytest.raises(UnavailableError, match=r"expected 12288 MiB .* found 4096 MiB free, 8192 MiB too few"):
        built(bundle)
    assert leavings(engine_path(bundle, "tensorrt", "sm89", "fp32").parent) == []


def test_a_builder_that_the_system_kills_is_told_as_such(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    fault(monkeypatch, "build-killed")
    with pytest.raises(UnavailableError, match="the system killed it, which happens when this machine's memory runs"):
        built(bundle)
    assert leavings(engine_path(bundle, "tensorrt", "sm89", "fp32").parent) == []


@pytest.mark.parametrize(
    ("number", "words"), [(errno.EROFS, "the file system is read-only"), (errno.EACCES, "it is not writable")]
)
def test_a_cache_that_cannot_be_written_is_a_sentence(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch, number: int, words: str
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("edgevand_runtime.engines.engine_files.os.open", refuse)
    with pytest.raises(OutputError, match=words):
        built(bundle)


@pytest.mark.parametrize("options", [{"batch": 0}, {"workspace_mb": 0}])
def test_numbers_out_of_range_are_refused(bundle: Bundle, options: dict[str, int]) -> None:
    with pytest.raises(UsageError, match=r"of 1 (MiB )?or more, found 0"):
        built(bundle, **options)


# Two processes, and Ctrl-C

START = """
import sys
from pathlib import Path
from edgevand.bundle import Bundle
from edgevand.errors import EdgevandError
from edgevand_runtime.engines.tensorrt_build import BuildOptions, build_engine
made = build_engine(Bundle.open(Path(sys.argv[1])), BuildOptions(target="sm89"), print)
print("reused" if made.reused else "built")
"""


def started(bundle: Bundle, **environment: str) -> subprocess.Popen[str]:
    """A process that builds the bundle for sm89 without a GPU."""
    paths = os.pathsep.join(entry for entry in sys.path if entry)
    return subprocess.Popen(
        [sys.executable, "-c", START, str(bundle.path)],
        env={**os.environ, "PYTHONPATH": paths, "FAKE_TENSORRT": "build-slow", **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def waited(condition: Callable[[], bool]) -> None:
    limit = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < limit, "what was waited for did not happen"
        time.sleep(0.02)


def test_of_two_processes_one_builds_and_the_other_waits_and_takes_it(bundle: Bundle, tmp_path: Path) -> None:
    log = tmp_path / "builds"
    both = [started(bundle, FAKE_TENSORRT_LOG=str(log), FAKE_TENSORRT_SECONDS="1") for _ in range(2)]
    said = [process.communicate(timeout=60)[0] for process in both]
    assert sorted(text.splitlines()[-1] for text in said) == ["built", "reused"]
    assert any("waiting for another process" in text for text in said)
    assert len(log.read_text().splitlines()) == 1


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_a_build_that_is_stopped_leaves_nothing_and_the_next_one_builds(
    bundle: Bundle, tmp_path: Path, number: signal.Signals
) -> None:
    log = tmp_path / "builds"
    process = started(bundle, FAKE_TENSORRT_LOG=str(log))
    waited(log.exists)
    builder = int(log.read_text())
    folder = engine_path(bundle, "tensorrt-rtx", "sm89", "fp32").parent
    if number == signal.SIGINT:
        os.killpg(process.pid, number)  # as a terminal does: to the whole group
        process.communicate(timeout=30)
        waited(lambda: not Path(f"/proc/{builder}/cmdline").exists() or not alive(builder))
    else:
        process.kill()
        process.communicate(timeout=30)
        os.kill(builder, signal.SIGKILL)  # the fake sleeps where a real builder would notice at its next step
    assert leavings(folder) == []
    assert built(bundle, backend="tensorrt-rtx").is_file()


def alive(process: int) -> bool:
    try:
        state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


# What is refused


def edited(path: Path, **fields: Any) -> None:
    """Change fields of an engine's record."""
    record = json.loads(record_path(path).read_bytes())
    record_path(path).write_text(json.dumps({**record, **fields}))


STALE = [
    ({"graph": "sha256:" + "0" * 64}, "graph: expected sha256:"),
    ({"library_version": "10.12.0"}, "version of tensorrt: expected 10.13.0, found 10.12.0"),
    ({"gpu": "NVIDIA L4"}, "GPU: expected NVIDIA RTX 4090, found NVIDIA L4"),
    ({"target": "sm86"}, "target: expected sm89, found sm86"),
    ({"driver": "11.8"}, "CUDA of the driver: expected 12.x, found 11.x"),
    ({"precision": "fp16"}, "precision: expected fp32, found fp16"),
    ({"library": "tensorrt-rtx"}, "library: expected tensorrt, found tensorrt-rtx"),
]


@pytest.mark.parametrize(("fields", "words"), STALE, ids=[next(iter(fields)) for fields, _ in STALE])
def test_a_stale_engine_is_refused_by_a_run_and_rebuilt_by_a_build(
    bundle: Bundle, ready: Ready, fields: dict[str, str], words: str
) -> None:
    path = ready()
    edited(path, **fields)
    with pytest.raises(UnavailableError, match=f"is stale: {words}.*; run edgevand build"):
        opened(bundle)
    told: list[str] = []
    assert not build_engine(bundle, BuildOptions(), told.append).reused
    assert any(f"is stale: {words}" in line for line in told)
    opened(bundle).close()


def test_other_build_options_make_a_build_and_not_a_refusal(bundle: Bundle, ready: Ready) -> None:
    ready(batch=2)
    opened(bundle).close()
    told: list[str] = []
    made = build_engine(bundle, BuildOptions(batch=3), told.append)
    assert not made.reused
    assert any("expected batch 3, workspace the library's, found batch 2" in line for line in told)


def test_a_driver_of_the_same_major_version_is_no_reason_to_build_again(
    bundle: Bundle, ready: Ready, monkeypatch: pytest.MonkeyPatch
) -> None:
    ready()
    plug_in(monkeypatch, replace(ADA, cuda=(12, 9)))
    opened(bundle).close()


@pytest.mark.parametrize("damage", ["truncated", "replaced", "empty record", "strange record"])
def test_a_damaged_engine_is_refused_and_built_again(bundle: Bundle, ready: Ready, damage: str) -> None:
    path = ready()
    whole = path.read_bytes()
    if damage == "truncated":
        path.write_bytes(whole[:-10])
    elif damage == "replaced":
        path.write_bytes(whole[:-10] + b"0123456789")
    else:
        record_path(path).write_text("" if damage == "empty record" else '{"schema": "edgevand.engine/9"}')
    with pytest.raises(UnavailableError, match="edgevand build"):
        opened(bundle)
    assert not build_engine(bundle, BuildOptions()).reused
    assert json.loads(path.read_bytes())["graph"] == json.loads(whole)["graph"]
    opened(bundle).close()


def test_an_engine_without_its_record_is_no_engine(bundle: Bundle, ready: Ready) -> None:
    path = ready()
    record_path(path).unlink()
    assert read_engine_record(path) is None
    with pytest.raises(UnavailableError, match=r"expected an engine of .* found none; run edgevand build --bundle"):
        opened(bundle)


def test_a_plan_that_the_library_refuses_is_told_with_its_reason(
    bundle: Bundle, ready: Ready, monkeypatch: pytest.MonkeyPatch
) -> None:
    ready()
    fault(monkeypatch, "load")
    with pytest.raises(UnavailableError, match=r"cannot be loaded by tensorrt 10.13.0 .* kSERIALIZATION_VERSION"):
        opened(bundle)


def test_too_little_memory_to_start_says_by_how_much(
    bundle: Bundle, ready: Ready, monkeypatch: pytest.MonkeyPatch
) -> None:
    ready()
    fault(monkeypatch, "context")
    monkeypatch.setenv("FAKE_GPU_FREE", str(1 << 30))
    with pytest.raises(UnavailableError, match=r"expected 3072 MiB free on .*4090, found 1024 MiB, 2048 MiB too few"):
        opened(bundle)


def test_a_plan_that_gives_half_precision_is_refused(
    bundle: Bundle, ready: Ready, monkeypatch: pytest.MonkeyPatch
) -> None:
    ready()
    fault(monkeypatch, "half")
    with pytest.raises(FormatError, match=r"to take and give float32, found .*HALF"):
        opened(bundle)


@pytest.mark.parametrize(("module", "words"), [("tensorrt", "library of --backend tensorrt"), ("cupy", "CuPy")])
def test_an_absent_library_is_named_with_the_extra_that_brings_it(
    bundle: Bundle, ready: Ready, monkeypatch: pytest.MonkeyPatch, module: str, words: str
) -> None:
    ready()
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingDependencyError, match=rf"expected (the )?{words}.*pip install 'edgevand\[tensorrt\]'"):
        opened(bundle)


def test_without_a_gpu_or_with_a_driver_too_old_nothing_is_opened_or_built(
    bundle: Bundle, ready: Ready, monkeypatch: pytest.MonkeyPatch
) -> None:
    ready()
    plug_in(monkeypatch, None)
    with pytest.raises(UnavailableError, match=r"expected an NVIDIA GPU .* found no NVIDIA driver"):
        opened(bundle)
    with pytest.raises(UnavailableError, match=r"found no NVIDIA driver.*--target, like sm89"):
        built(bundle)
    plug_in(monkeypatch, replace(ADA, cuda=(11, 4)))
    with pytest.raises(UnavailableError, match=r"driver for CUDA 12.8, for which CuPy .* was made, .* CUDA 11.4"):
        opened(bundle)
    plug_in(monkeypatch, ADA)
    with pytest.raises(UnavailableError, match="expected a GPU cuda:3, found 1 GPU"):
        open_tensorrt(bundle, "cuda:3", None, "tensorrt")
    with pytest.raises(UsageError, match="found 'cpu'"):
        open_tensorrt(bundle, "cpu", None, "tensorrt")


# What is computed


@pytest.mark.parametrize("batch", [1, 2, 8])
def test_batches_larger_than_the_engine_s_are_run_in_pieces_and_give_what_onnx_runtime_gives(
    bundle: Bundle, ready: Ready, batch: int
) -> None:
    ready(batch=batch)
    engine, text, images = opened(bundle), bundle.text("part")[1], frames(5)
    wanted = OnnxRuntimeEngine(bundle.graph_path, bundle.manifest, device="cpu").run(images, text)
    for found in (engine.run(images, text), engine.run(images, text)):
        np.testing.assert_allclose(found.embedding, wanted.embedding, atol=1e-6)
        np.testing.assert_allclose(found.tokens[0], wanted.tokens[0], atol=1e-6)
        np.testing.assert_allclose(found.logits[0], wanted.logits[0], atol=1e-4)
    engine.close()


def test_results_are_the_caller_s_own_and_survive_the_next_frame(bundle: Bundle, ready: Ready) -> None:
    ready()
    engine, text, images = opened(bundle), bundle.text("part")[1], frames(2)
    first = engine.run(images[:1], text)
    kept = first.tokens[0].copy()
    engine.run(images[1:], text)
    np.testing.assert_array_equal(first.tokens[0], kept)


def test_threads_take_turns(bundle: Bundle, ready: Ready) -> None:
    ready()
    engine, text, images = opened(bundle), bundle.text("part")[1], frames(16)
    wanted = engine.run(images, text).tokens[0]
    found: dict[int, NDArray[np.float32]] = {}

    def work(i: int) -> None:
        found[i] = engine.run(images[i : i + 1], text).tokens[0][0]

    threads = [threading.Thread(target=work, args=(i,)) for i in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    np.testing.assert_allclose(np.stack([found[i] for i in range(16)]), wanted, atol=1e-6)


@pytest.mark.parametrize("shape", [(1, 3, SIZE, SIZE + 4), (3, SIZE, SIZE), (0, 3, SIZE, SIZE), (1, 1, SIZE, SIZE)])
def test_images_of_another_shape_are_refused(bundle: Bundle, ready: Ready, shape: tuple[int, ...]) -> None:
    ready()
    with pytest.raises(UsageError, match=r"expected images of shape \(N, 3, 32, 32\).* found \("):
        opened(bundle).run(np.zeros(shape, np.float32), bundle.text("part")[1])


def test_text_is_asked_for_where_the_graph_takes_it(bundle: Bundle, ready: Ready) -> None:
    ready()
    with pytest.raises(UsageError, match="expected text embeddings"):
        opened(bundle).run(frames(1), None)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("enqueue", r"a batch of 1 was not run on NVIDIA RTX 4090, found: .*Error Code 1: Cuda Runtime \(700\)"),
        ("shape", "the engine refuses the input image of shape"),
        ("address", "the engine refuses memory for image"),
    ],
)
def test_a_call_that_the_library_answers_with_no_is_a_sentence(
    bundle: Bundle, ready: Ready, monkeypatch: pytest.MonkeyPatch, name: str, words: str
) -> None:
    ready()
    engine = opened(bundle)
    fault(monkeypatch, name)
    with pytest.raises(UnavailableError, match=words):
        engine.run(frames(1), bundle.text("part")[1])


def test_too_little_memory_at_run_says_by_how_much(
    bundle: Bundle, ready: Ready, monkeypatch: pytest.MonkeyPatch
) -> None:
    ready()
    engine = opened(bundle)
    monkeypatch.setenv("FAKE_GPU_FREE", "4096")
    with pytest.raises(UnavailableError, match=r"a batch of 1 cannot be run: expected .* MiB too few"):
        engine.run(frames(1), bundle.text("part")[1])


def test_auto_falls_back_to_the_processor_where_the_gpu_has_too_little_memory(
    bundle: Bundle, ready: Ready, monkeypatch: pytest.MonkeyPatch
) -> None:
    ready()
    engine = open_engine(bundle)
    assert engine.name == "tensorrt:cuda:0"
    engine.close()
    fault(monkeypatch, "context")
    engine = open_engine(bundle)
    assert engine.name.endswith(":cpu")
    engine.close()
    with pytest.raises(UnavailableError, match="cannot be started"):
        open_engine(bundle, backend="tensorrt")


def test_what_tensorrt_rtx_compiles_at_the_first_run_is_there_at_the_second_start(
    bundle: Bundle, ready: Ready, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ready(backend="tensorrt-rtx")
    log = tmp_path / "starts"
    monkeypatch.setenv("FAKE_TENSORRT_LOG", str(log))
    for _ in range(2):
        engine = opened(bundle, "tensorrt-rtx")
        engine.run(frames(1), bundle.text("part")[1])
        engine.close()
    assert log.read_text().splitlines() == ["starts with b''", "starts with b'compiled'"]
