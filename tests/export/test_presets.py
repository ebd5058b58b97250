"""Presets name what exists, give way to a person, and are told as they are in the documentation."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, get_args

import open_clip
import pytest

from edgevand.bundle import Precision
from edgevand.cli import load_command
from edgevand.errors import UsageError
from edgevand_export.presets import PRESETS, find_preset
from edgevand_runtime.engines.choose import ENGINES

if TYPE_CHECKING:
    from collections.abc import Callable

    from edgevand_export.export import ExportOptions

PAGE = Path(__file__).parents[2] / "docs" / "presets.md"


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_is_a_model_of_open_clip_at_a_size_that_its_patches_divide_on_an_engine_that_there_is(
    name: str,
) -> None:
    preset = PRESETS[name]
    config = open_clip.get_model_config(preset.model)
    assert config is not None
    assert preset.image_size % config["vision_cfg"]["patch_size"] == 0
    assert preset.precision in get_args(Precision)
    assert preset.backend in ENGINES


@pytest.mark.parametrize("name", PRESETS)
def test_the_page_says_of_each_preset_what_the_table_says(name: str) -> None:
    preset = PRESETS[name]
    (row,) = [line for line in PAGE.read_text(encoding="utf-8").splitlines() if line.startswith(f"| `{name}`")]
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    assert cells[1:5] == [preset.model, f"{preset.image_size} px", preset.precision, preset.backend]
    assert preset.evidence in cells[5]


class CaughtError(Exception):
    """The options that the export was called with."""


@pytest.fixture
def wanted(monkeypatch: pytest.MonkeyPatch) -> Callable[..., ExportOptions]:
    """``wanted(arguments)``: what ``edgevand export`` would export."""

    def stop(options: ExportOptions, report: object) -> None:
        raise CaughtError(options)

    monkeypatch.setattr("edgevand_export.export.export_bundle", stop)

    def ask(*arguments: str) -> ExportOptions:
        with pytest.raises(CaughtError) as caught:
            load_command("export").main(arguments, standalone_mode=False)
        options: ExportOptions = caught.value.args[0]
        return options

    return ask


def test_the_command_exports_what_the_preset_says(wanted: Callable[..., ExportOptions]) -> None:
    options = wanted("--for", "jetson-agx-orin")
    assert (options.model, options.image_size, options.precision) == ("ViT-L-14-336", 518, "fp16")


def test_what_a_person_gives_beside_a_preset_goes_before_it(wanted: Callable[..., ExportOptions]) -> None:
    options = wanted("--for", "jetson-agx-orin", "--precision", "fp32", "--image-size", "336")
    assert (options.model, options.image_size, options.precision) == ("ViT-L-14-336", 336, "fp32")
    options = wanted("--for", "jetson-agx-orin", "--model", "ViT-B-32")
    assert (options.model, options.image_size, options.precision) == ("ViT-B-32", None, "fp16")


def test_without_a_preset_the_command_exports_as_ever(wanted: Callable[..., ExportOptions]) -> None:
    options = wanted()
    assert (options.model, options.image_size, options.precision) == ("ViT-L-14-336", None, "fp32")


def test_without_a_device_there_is_no_preset_and_another_name_is_refused() -> None:
    assert find_preset(None, precision=None, calibrated=False) is None
    with pytest.raises(UsageError, match="expected --for jetson-orin-nano or"):
        find_preset("toaster", precision=None, calibrated=False)


def test_int8_needs_frames_unless_a_person_chose_another_precision() -> None:
    with pytest.raises(UsageError, match="--calibrate SOURCE"):
        find_preset("pi5", precision=None, calibrated=False)
    assert find_preset("pi5", precision=None, calibrated=True) is PRESETS["pi5"]
    assert find_preset("pi5", precision="fp32", calibrated=False) is PRESETS["pi5"]
