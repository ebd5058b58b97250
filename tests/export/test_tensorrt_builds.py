"""TensorRT-RTX's own parser and builder on the graphs that the export writes: they need no GPU. Nothing is run.

Large graphs are built by ``bench/parse_graphs.py``.
"""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from edgevand.bundle import Bundle
from edgevand.errors import FormatError
from edgevand.home import builtin_bundle
from edgevand_runtime.engines.tensorrt_build import BuildOptions, build_engine
from edgevand_runtime.engines.tensorrt_compile import Job, compile_plan
from tests.export.models import SIZE
from tests.tiny import write_tiny_bundle

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

pytest.importorskip("tensorrt_rtx_bindings", reason="TensorRT-RTX's builder needs the extra edgevand[tensorrt-rtx]")

TARGETS = ("sm86", "sm89", "sm120")


def phases(graph: Path, size: tuple[int, int], target: str, folder: Path) -> set[str]:
    """Build a graph in this process, for batches of 1 and 2; the phases that the builder reported on the way."""
    plan, seen = folder / "plan", set()

    def report(phase: str, step: int, of: int) -> bool:
        assert 0 <= step <= of
        seen.add(phase)
        return True

    compile_plan(Job("tensorrt-rtx", str(graph), str(plan), (3, *size), 2, None, target, None), report)
    assert plan.stat().st_size > 100_000
    return seen


@pytest.fixture(scope="module")
def graph(
    tmp_path_factory: pytest.TempPathFactory, exported: Callable[[str], tuple[Any, Bundle]]
) -> Callable[[str, str], Path]:
    """``graph(kind, precision)``: the graph of a tiny model with heads, made once."""
    import onnx_ir as ir

    from edgevand_export.precision import to_half
    from edgevand_export.storage import save_graph

    folder = tmp_path_factory.mktemp("graphs")

    def made(kind: str, precision: str) -> Path:
        single = exported(kind)[1].graph_path
        if precision == "fp32":
            return single
        place = folder / f"{kind}-{precision}"
        if not place.exists():
            place.mkdir()
            model = ir.load(single)
            to_half(model)
            save_graph(model, place)
        return place / "encoder.onnx"

    return made


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("precision", ["fp32", "fp16"])
@pytest.mark.parametrize("kind", ["vit", "resnet", "timm"])
def test_every_kind_of_tower_is_built_for_gpus_that_are_not_here(
    graph: Callable[[str, str], Path], kind: str, precision: str, target: str, tmp_path: Path
) -> None:
    assert "Building engine" in phases(graph(kind, precision), SIZE[kind], target, tmp_path)


@pytest.mark.parametrize("target", TARGETS)
def test_the_built_in_bundle_is_built_for_gpus_that_are_not_here(target: str, tmp_path: Path) -> None:
    bundle = Bundle.open(builtin_bundle(), verify=False)
    phases(bundle.graph_path, (bundle.manifest.image.height, bundle.manifest.image.width), target, tmp_path)


def test_sm87_is_not_offered_yet_so_a_jetson_orin_builds_its_own() -> None:
    """When this fails, docs/edge.md has a row to change."""
    from edgevand_runtime.engines.tensorrt_library import load_library, offered_targets

    offered = offered_targets(load_library("tensorrt-rtx"))
    assert set(TARGETS) <= set(offered)
    assert "sm87" not in offered


def test_a_graph_with_an_unknown_operator_is_refused_in_the_parser_s_words(tmp_path: Path) -> None:
    """A graph that came into the bundle past its hashes."""
    import onnx
    from onnx import TensorProto, helper

    bundle = write_tiny_bundle(tmp_path / "bundle")
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, ["N", 3, 32, 32])
    output = helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["N", 3, 32, 32])
    node = helper.make_node("Mystify", ["image"], ["embedding"], domain="nobody.knows")
    opsets = [helper.make_opsetid("", 20), helper.make_opsetid("nobody.knows", 1)]
    made = helper.make_model(helper.make_graph([node], "strange", [image], [output]), opset_imports=opsets)
    onnx.save(made, bundle.graph_path)
    with pytest.raises(FormatError, match=r"expected tensorrt-rtx [\d.]+ to understand the graph, found: .*Mystify"):
        build_engine(bundle, BuildOptions(target="sm89"))


def test_the_command_builds_an_engine_and_info_says_what_it_is(tmp_path: Path) -> None:
    target = tmp_path / "here.engine"
    command = [
        sys.executable,
        "-m",
        "edgevand",
        "build",
        "--bundle",
        str(builtin_bundle()),
        "--target",
        "sm89",
        "--json",
    ]
    done = subprocess.run([*command, "-o", str(target)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert document["engine"] == str(target)
    assert document["record"]["parity"] is None
    assert "unproved" not in done.stdout
    told = subprocess.run([*command[:3], "info", str(target)], capture_output=True, text=True, check=True).stdout
    for word in ("tensorrt-rtx", "sm89", "unproved", "built without a GPU"):
        assert word in told
    target.write_bytes(target.read_bytes()[:-1])
    refused = subprocess.run([*command[:3], "info", str(target)], capture_output=True, text=True, check=False)
    assert refused.returncode == 3
    assert "truncated or replaced" in refused.stderr
