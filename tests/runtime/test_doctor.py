"""What the doctor finds, held against the same facts asked for in other ways."""

from __future__ import annotations

import importlib.util
import json
import os
import platform
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import onnxruntime
import psutil
import pytest

from edgevand.bundle import Bundle
from edgevand.cli import main
from edgevand.home import builtin_bundle
from edgevand_runtime import doctor
from edgevand_runtime.doctor import Check, accelerators, amx, cameras, engines, processor, software, storage
from edgevand_runtime.engines import open_engine, proofs
from edgevand_runtime.engines.proofs import prove
from edgevand_runtime.verify import check_parity


@pytest.fixture(scope="module")
def report() -> dict[str, Check]:
    return dict(doctor.examine())


def test_every_check_answers_and_whatever_is_not_ok_has_a_remedy(report: dict[str, Check]) -> None:
    assert list(report) == list(doctor.CHECKS)
    for name, check in report.items():
        assert check.found, name
        assert (check.remedy is None) == (check.state == "ok"), name


def test_the_findings_are_those_of_the_libraries_themselves(report: dict[str, Check]) -> None:
    assert report["system"].data["python"] == platform.python_version()
    assert report["processor"].data["cores"] == len(os.sched_getaffinity(0))
    assert report["memory"].data["total"] == psutil.virtual_memory().total
    assert report["onnxruntime"].data["providers"] == onnxruntime.get_available_providers()
    assert report["opencv"].data["version"] == cv2.__version__
    assert report["storage"].data["home"] == os.environ["EDGEVAND_HOME"] or report["storage"].data["home"]
    backends = {cv2.videoio_registry.getBackendName(backend) for backend in cv2.videoio_registry.getBackends()}
    assert report["ffmpeg"].data["ffmpeg"] == ("FFMPEG" in backends)


def test_a_check_that_raises_is_a_problem_and_the_others_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> Check:
        message = "no luck"
        raise RuntimeError(message)

    monkeypatch.setattr(doctor, "CHECKS", {"first": broken, "second": lambda: Check("ok", "fine")})
    answers = dict(doctor.examine())
    assert answers["first"].state == "problem"
    assert "RuntimeError: no luck" in answers["first"].found
    assert answers["second"].state == "ok"


def test_the_command_prints_one_json_document_and_ends_with_0(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--json"]) == 0
    captured = capsys.readouterr()
    document = json.loads(captured.out)
    assert document["schema"] == "edgevand.doctor/1"
    assert set(document["checks"]) == set(doctor.CHECKS)
    assert document["problems"] == [name for name, check in document["checks"].items() if check["state"] == "problem"]
    assert captured.err == ""


def test_the_command_prints_a_line_for_each_check_and_a_remedy_below_what_is_lacking(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    checks = {"good": lambda: Check("ok", "here"), "bad": lambda: Check("problem", "broken", "mend it")}
    monkeypatch.setattr(doctor, "CHECKS", checks)
    assert main(["doctor"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split() for line in lines] == [
        ["ok", "good", "here"],
        ["problem", "bad", "broken"],
        ["->", "mend", "it"],
    ]


@pytest.mark.skipif(shutil.which("objdump") is None, reason="needs a disassembler (binutils)")
def test_the_amx_probe_is_the_machine_code_that_its_comments_say(tmp_path: Path) -> None:
    (tmp_path / "code").write_bytes(amx.CODE)
    command = ["objdump", "-D", "-b", "binary", "-m", "i386:x86-64", "-M", "intel", str(tmp_path / "code")]
    listing = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    names = [line.split("\t")[2].split()[0] for line in listing.splitlines() if line.count("\t") >= 2]
    assert names == ["ldtilecfg", "tilezero", "tilezero", "tilezero", "tdpbf16ps", "tilerelease", "ret"]
    assert "tdpbf16ps tmm0,tmm1,tmm2" in listing.replace(", ", ",")


@pytest.mark.skipif(platform.machine() != "x86_64", reason="AMX is of x86")
def test_executing_amx_is_survived_and_agrees_with_the_processor() -> None:
    if "amx_tile" in processor.cpu_flags():
        assert processor.amx_outcome() in {"ok", "trapped"}
    else:
        assert processor.amx_outcome() == "denied"
        assert processor.amx_outcome(anyway=True) == "trapped"


def test_an_amx_that_traps_is_a_problem_with_the_setting_that_avoids_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processor, "cpu_flags", lambda: frozenset({"avx2", "amx_tile"}))
    monkeypatch.setattr(processor, "amx_outcome", lambda: "trapped")
    check = processor.check_amx()
    assert check.state == "problem"
    assert "ONEDNN_MAX_CPU_ISA=AVX512_CORE_BF16" in str(check.remedy)


def test_packages_that_are_missing_or_too_old_are_told_with_the_command_that_mends_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lines = ["numpy>=1.26", "rich>=13.8", 'torch>=2; extra == "export"']
    monkeypatch.setattr(software, "requires", lambda _: lines)
    monkeypatch.setattr(software, "installed", lambda *_: {"numpy": "1.9.3"})
    check = software.check_packages()
    assert check.state == "problem"
    assert check.found == "rich is missing, numpy 1.9.3 is older than 1.26"
    assert check.remedy == "`pip install 'rich>=13.8' 'numpy>=1.26'`"


BUILD = """
  Video I/O:
    DC1394:                      NO
    FFMPEG:                      YES
      avcodec:                   YES (59.37.100)
    GStreamer:                   {gstreamer}
    v4l/v4l2:                    YES (linux/videodev2.h)
"""


@pytest.mark.parametrize(("answer", "there"), [("YES (1.22.0)", True), ("NO", False)])
def test_the_build_information_of_opencv_is_read(answer: str, there: bool) -> None:  # noqa: FBT001 (a parameter)
    found = software.parse_build(BUILD.format(gstreamer=answer))
    assert found == {"ffmpeg": True, "gstreamer": there, "v4l2": True}


def test_two_wheels_of_one_library_are_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    def both(*names: str) -> dict[str, str]:
        return dict.fromkeys(names[:2], "1.0")

    monkeypatch.setattr(accelerators, "installed", both)
    check = accelerators.check_onnxruntime()
    assert check.state == "problem"
    assert "uninstall all of onnxruntime, onnxruntime-gpu" in str(check.remedy)


def _gpu() -> dict[str, Any]:
    devices = [{"name": "Test GPU", "compute_capability": [8, 6], "memory": 8_000_000_000}]
    return {"code": 0, "driver_supports_cuda": 13.0, "devices": devices}


def test_a_gpu_that_onnxruntime_cannot_use_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    def probe(code: str) -> dict[str, Any]:
        return _gpu() if "cuInit" in code else {"version": "1.31.1", "providers": ["CPUExecutionProvider"]}

    monkeypatch.setattr(accelerators, "_probe", probe)
    assert accelerators.check_cuda().found == "Test GPU (sm_86); the driver supports CUDA 13.0"
    check = accelerators.check_onnxruntime()
    assert check.state == "problem"
    assert "onnxruntime-gpu" in str(check.remedy)


def test_a_driver_too_old_for_a_library_is_a_problem_with_both_versions(monkeypatch: pytest.MonkeyPatch) -> None:
    def probe(code: str) -> dict[str, Any]:
        if "cuInit" in code:
            return {**_gpu(), "driver_supports_cuda": 12.4}
        return {"version": "1.31.1", "providers": ["CUDAExecutionProvider", "CPUExecutionProvider"], "cuda": "13.0"}

    monkeypatch.setattr(accelerators, "_probe", probe)
    check = accelerators.check_onnxruntime()
    assert check.state == "problem"
    assert "ONNX Runtime 1.31.1 was made for CUDA 13.0, and the NVIDIA driver supports CUDA 12.4 at most" in check.found
    assert "update the NVIDIA driver" in str(check.remedy)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    monkeypatch.setattr(accelerators, "installed", lambda *_: {"tensorrt-cu12": "10.9", "tensorrt-cu13": "11.0"})
    check = accelerators.check_tensorrt()
    assert check.state == "problem"
    assert "tensorrt-cu13 11.0 was made for CUDA 13, and the NVIDIA driver supports CUDA 12.4" in check.found


def test_a_driver_for_the_same_major_version_is_no_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    def probe(code: str) -> dict[str, Any]:
        if "cuInit" in code:
            return {**_gpu(), "driver_supports_cuda": 12.4}
        return {"version": "1.31.1", "providers": ["CUDAExecutionProvider", "CPUExecutionProvider"], "cuda": "12.9"}

    monkeypatch.setattr(accelerators, "_probe", probe)
    monkeypatch.setattr(accelerators, "installed", lambda *_: {"onnxruntime-gpu": "1.31.1"})
    assert accelerators.check_onnxruntime().state == "ok"


def test_engines_are_listed_with_version_device_and_what_is_proved_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proofs, "_of_this_process", {})
    bundle = Bundle.open(builtin_bundle())
    first = doctor.CHECKS["engines"]()
    assert f"onnxruntime {onnxruntime.__version__} on cpu" in first.found
    assert "proved: " not in first.found
    engine = open_engine(bundle, device="cpu", threads=1)
    found = doctor.CHECKS["engines"]()
    assert found.state == "ok"
    assert f"{engine.name.partition(':')[0]} {onnxruntime.__version__} on cpu (proved: fp32)" in found.found
    report = check_parity(bundle, engine, batched=False)
    wrong = replace(report, checks=tuple(replace(check, passed=False) for check in report.checks))
    prove(bundle, engine, wrong)
    engine.close()
    check = doctor.CHECKS["engines"]()
    assert check.state == "problem"
    assert "computes something else in fp32" in check.found
    assert "edgevand verify" in str(check.remedy)


def test_where_no_engine_starts_the_doctor_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engines, "run_python", lambda _: None)
    assert engines.check_engines().state == "problem"


def test_a_camera_that_may_not_be_opened_is_told_with_the_group_to_join(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cameras, "list_devices", lambda: [Path("/dev/video0")])
    monkeypatch.setattr(cameras, "_captures", lambda _: None)
    monkeypatch.setattr(os, "access", lambda *_: False)
    check = cameras.check_cameras()
    assert check.state == "problem"
    assert "/dev/video0 unnamed: permission denied" in check.found
    assert "group video" in str(check.remedy)


def test_a_file_in_the_place_of_a_camera_is_no_camera(tmp_path: Path) -> None:
    (tmp_path / "video0").touch()
    assert cameras._captures(tmp_path / "video0") is False


def test_a_home_on_a_full_disk_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(100, 99, 1))
    check = storage.check_storage()
    assert check.state == "problem"
    assert "EDGEVAND_HOME" in str(check.remedy)
