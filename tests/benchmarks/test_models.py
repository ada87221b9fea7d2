"""The table of 2-D models: real sizes, and what is measured of small ones."""

import sys
from pathlib import Path

import pytest
import torch

from benchmarks import models
from gamt import segmenters
from tests.small_hub import SMALL


@pytest.mark.parametrize(
    ("name", "millions"),
    [
        # As the authors of SAM 2, EdgeTAM and SlimSAM give them, or by the files of the hub in
        # float32: 375 MB of SAM's ViT-B, 379 MB, 1.25 and 2.57 GB of SAM-HQ, 38.9 MB of the smaller
        # SlimSAM. That of SAM 3 has a detector, too.
        ("sam2.1_hiera_tiny", 38.9),
        ("sam2.1_hiera_small", 46.0),
        ("sam2.1_hiera_base_plus", 80.8),
        ("sam2.1_hiera_large", 224.4),
        ("medsam2", 38.9),
        ("hf:facebook/sam-vit-base", 93.7),
        ("hf:yonigozlan/EdgeTAM-hf", 13.9),
        ("hf:Zigeng/SlimSAM-uniform-50", 28.0),
        ("hf:Zigeng/SlimSAM-uniform-77", 9.7),
        ("hf:syscv-community/sam-hq-vit-base", 94.8),
        ("hf:syscv-community/sam-hq-vit-large", 313.7),
        ("hf:syscv-community/sam-hq-vit-huge", 642.7),
    ],
)
# Of timm, on importing it.
@pytest.mark.filterwarnings("ignore:.torch.jit.interface. is deprecated:FutureWarning")
def test_configurations_are_of_the_published_sizes(name: str, millions: float) -> None:
    with torch.device("meta"):
        model = models.build(name)
    count = sum(weight.numel() for weight in model.parameters()) / 1e6
    assert count == pytest.approx(millions, abs=0.1)


def test_built_in_names_are_those_of_segmenters() -> None:
    named = [name for name in models.MODELS if not name.startswith(segmenters.HUB)]
    assert set(named) == set(segmenters.BUILT_IN) - {segmenters.DEFAULT}


@pytest.mark.parametrize(("family", "tracks"), [("sam", False), ("sam2_video", True)])
def test_a_model_is_measured_with_what_it_can(
    family: str, tracks: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = SMALL[family]().config
    monkeypatch.setattr(models, "CONFIGS", {"hf:small": lambda: config})
    (file,) = models.write_model("hf:small", tmp_path)
    found = models.measure("hf:small", str(file), "cpu", "float32")
    assert min(found.encode_seconds, found.decode_seconds) > 0
    assert (found.track_seconds is not None) == tracks
    # Of 128 px, patches of 16: 64 channels of 8 x 8 for SAM. SAM 2 of width 128 has 128 of them,
    # and finer levels of an eighth and a quarter of the channels, 4 and 2 times as fine.
    values = 128 * 8**2 + 16 * 32**2 + 32 * 16**2 if tracks else 64 * 8**2
    assert found.embedding_bytes == 4 * values
    assert found.peak_bytes > 2**20


def test_an_unknown_model_is_answered_with_the_known_ones(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["models", "sam_vit_x"])
    with pytest.raises(SystemExit) as end:
        models.main()
    assert end.value.code == 2
    assert "found sam_vit_x, expected some of sam_vit_b, " in capsys.readouterr().err
