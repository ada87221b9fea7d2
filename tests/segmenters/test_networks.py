"""segment-anything's networks: built without its start-up, filled from files of all kinds."""

import io
import os
import pickle
import re
import subprocess
import sys
import zipfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from random import Random
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from gamt.segmenters import SegmenterError
from gamt.segmenters.networks import (
    VIT_B,
    VIT_H,
    VIT_L,
    Architecture,
    Network,
    build_network,
    load_checkpoint,
)
from tests.segmenters.test_archives import HOSTILE, UNPLAIN
from tests.small_sam import small_network

State = dict[str, Any]

SMALL = Architecture(48, 3, 3, (1,), 320)


@pytest.fixture
def state() -> State:
    """All weights of a small network."""
    return dict(small_network().state_dict())


def write(path: Path, content: object) -> Path:
    torch.save(content, path)
    return path


def load(path: Path) -> Network:
    network = build_network(SMALL)
    load_checkpoint(network, path)
    return network


def refusal(path: Path) -> str:
    """Returns what is said of a file that can't be loaded, less its path."""
    with pytest.raises(SegmenterError) as caught:
        load(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert "\n" not in message
    return message.removeprefix(f"{path}: ")


@pytest.mark.parametrize(
    ("architecture", "name"), [(VIT_B, "vit_b"), (VIT_L, "vit_l"), (VIT_H, "vit_h")]
)
def test_networks_are_those_of_the_package(architecture: Architecture, name: str) -> None:
    from segment_anything import sam_model_registry

    with torch.device("meta"):
        official = sam_model_registry[name]()
    ours = build_network(architecture)
    expected = {key: weight.shape for key, weight in official.state_dict().items()}
    assert {key: weight.shape for key, weight in ours.state_dict().items()} == expected
    assert str(ours).replace(" ", "") == str(official).replace(" ", "")
    assert [block.window_size for block in ours.image_encoder.blocks] == [
        block.window_size for block in official.image_encoder.blocks
    ]
    assert not ours.training


def test_building_a_network_imports_little() -> None:
    # torchvision takes as long as torch itself, and torch's arithmetic on the meta device half of
    # that, for sympy.
    code = (
        "import sys; from gamt.segmenters.networks import VIT_H, build_network; "
        "build_network(VIT_H); print({'torchvision', 'sympy'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_without_segment_anything_the_command_that_gets_it_is_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    monkeypatch.delitem(sys.modules, "gamt.segmenters._segment_anything_modeling", raising=False)
    with pytest.raises(SegmenterError, match=r"segment-anything: pip install 'gamt\[sam\]'"):
        build_network(SMALL)


def test_weights_become_those_of_the_file(tmp_path: Path, state: State) -> None:
    network = load(write(tmp_path / "some.pth", state))
    assert list(network.state_dict()) == list(state)
    for key, weight in network.state_dict().items():
        torch.testing.assert_close(weight, state[key], rtol=0, atol=0)
    assert not any(weight.requires_grad for weight in network.parameters())


def test_weights_under_another_key_than_training_programs_write_are_not_looked_for(
    tmp_path: Path, state: State
) -> None:
    path = write(tmp_path / "some.pth", {"epoch": 7, "weights": state})
    assert refusal(path).endswith("; 2 unknown: epoch, weights")


def test_files_of_old_versions_of_torch_are_read(tmp_path: Path, state: State) -> None:
    path = tmp_path / "old.pth"
    torch.save(state, path, _use_new_zipfile_serialization=False)
    assert list(load(path).state_dict()) == list(state)


def test_missing_keys_are_listed(tmp_path: Path, state: State) -> None:
    gone = [key for key in state if key.startswith("image_encoder.blocks.0.attn")]
    assert len(gone) == 6
    for key in gone:
        del state[key]
    reason = refusal(write(tmp_path / "some.pth", state))
    assert reason == (
        "these weights are not of this network: 6 missing: " + ", ".join(gone[:4]) + " and 2 more"
    )


def test_all_that_is_wrong_is_said_at_once(tmp_path: Path, state: State) -> None:
    del state["image_encoder.neck.0.weight"]
    state["extra"] = torch.zeros(3)
    state["image_encoder.pos_embed"] = torch.zeros(1, 7, 7, 48)
    state["mask_decoder.iou_token.weight"] = "a word"
    reason = refusal(write(tmp_path / "some.pth", state))
    assert reason == (
        "these weights are not of this network: 1 missing: image_encoder.neck.0.weight; "
        "1 unknown: extra; 2 of another shape: image_encoder.pos_embed (found 1 x 7 x 7 x 48, "
        "expected 1 x 20 x 20 x 48), mask_decoder.iou_token.weight (found str, expected 1 x 256)"
    )


class Danger:
    """Says when it is unpickled that code has been run."""

    def __reduce__(self) -> tuple[Any, ...]:
        return exec, ("import os; os.environ['GAMT_DANGER'] = '1'",)


def cut(state: State) -> bytes:
    buffer = io.BytesIO()
    torch.save(state, buffer)
    return buffer.getvalue()[:100_000]


def test_files_that_are_no_checkpoints_are_refused(tmp_path: Path, state: State) -> None:
    contents = {
        "empty": b"",
        "text": b"<html>Quota exceeded</html>\n" * 9,
        "truncated": cut(state),
        "zip": b"PK\x05\x06" + bytes(18),
        "code": pickle.dumps(Danger(), protocol=2),
    }
    for name, content in contents.items():
        path = tmp_path / f"{name}.pth"
        path.write_bytes(content)
        assert refusal(path).startswith("can't be read as a checkpoint: "), name


@pytest.mark.parametrize("zipped", [True, False])
def test_an_optimiser_beside_the_weights_is_left_out(
    zipped: bool, tmp_path: Path, state: State
) -> None:
    layer = torch.nn.Linear(2, 2)
    optimiser = torch.optim.Adam(layer.parameters())
    layer(torch.ones(2)).sum().backward()
    optimiser.step()
    path = tmp_path / "some.pth"
    content = {"model": state, "optimizer": optimiser}
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    assert list(load(path).state_dict()) == list(state)


@pytest.mark.parametrize("zipped", [True, False])
def test_code_in_a_checkpoint_is_not_run(
    zipped: bool, tmp_path: Path, state: State, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GAMT_DANGER", "0")
    path = tmp_path / "some.pth"
    content = {"model": Danger(), "weights": state}
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    assert refusal(path) == (
        "can't be read as a checkpoint: found 'builtins.exec' named in a pickle, "
        "expected weights, an optimiser and options at most; save the state dict alone"
    )
    assert os.environ["GAMT_DANGER"] == "0"


def test_what_is_no_state_dict_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "some.pth", [torch.zeros(2)])
    assert refusal(path) == "found a list, expected a state dict"


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    assert "No such file" in refusal(tmp_path / "none.pth")


def test_files_of_safetensors_are_read(tmp_path: Path, state: State) -> None:
    path = tmp_path / "some.safetensors"
    save_file(state, path)
    assert list(load(path).state_dict()) == list(state)
    path.write_bytes(path.read_bytes()[:100_000])
    assert refusal(path).startswith("can't be read as a checkpoint: ")


WEIGHT = "image_encoder.neck.0.weight"


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda weight: weight.long(), "1 of another type: {} (found strided int64 on cpu, "),
        (lambda weight: weight.cfloat(), "1 of another type: {} (found strided complex64 on cpu, "),
        (lambda weight: weight * torch.nan, "1 not finite: {}"),
        (lambda weight: weight.index_fill(0, torch.tensor(0), torch.inf), "1 not finite: {}"),
        # 4 TB of numbers, all of them the same one
        (lambda weight: torch.zeros(1).expand(2**20, 2**20), "1 of another shape: {} (found 1048"),
    ],
    ids=["integers", "complex", "NaN", "infinite", "huge"],
)
@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])
def test_weights_that_no_network_can_have_are_refused(
    change: Callable[[torch.Tensor], torch.Tensor],
    expected: str,
    legacy: bool,
    tmp_path: Path,
    state: State,
) -> None:
    state[WEIGHT] = change(state[WEIGHT])
    path = tmp_path / "some.pth"
    torch.save(state, path, _use_new_zipfile_serialization=not legacy)
    reason = refusal(path)
    assert reason.startswith(f"these weights are not of this network: {expected.format(WEIGHT)}")


@pytest.mark.parametrize("change", [torch.Tensor.to_sparse, lambda weight: weight.to("meta")])
def test_weights_that_are_no_plain_tensors_are_refused_by_their_name(
    change: Callable[[torch.Tensor], torch.Tensor], tmp_path: Path, state: State
) -> None:
    state[WEIGHT] = change(state[WEIGHT])
    assert re.match(
        r"can't be read as a checkpoint: found 'torch\.[\w.]+' named in a pickle, expected weights",
        refusal(write(tmp_path / "some.pth", state)),
    )


def test_weights_in_half_precision_are_read(tmp_path: Path, state: State) -> None:
    half = {key: weight.bfloat16() for key, weight in state.items()}
    assert list(load(write(tmp_path / "some.pth", half)).state_dict()) == list(state)


def test_keys_that_are_no_names_are_not_written_out(tmp_path: Path, state: State) -> None:
    state["x" * 100_000] = torch.zeros(1)
    assert len(refusal(write(tmp_path / "some.pth", state))) < 400
    other: dict[Any, torch.Tensor] = {("a", "b"): torch.zeros(1), **state}
    assert "a tuple" in refusal(write(tmp_path / "some.pth", other))


@pytest.mark.parametrize("name", HOSTILE)
def test_a_pickle_that_would_hang_or_kill_the_process_is_one_line(
    name: str, tmp_path: Path
) -> None:
    path = tmp_path / "some.pth"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("some/data.pkl", HOSTILE[name])
    assert refusal(path).startswith("can't be read as a checkpoint: found ")
    path.write_bytes(HOSTILE[name])
    assert refusal(path).startswith("can't be read as a checkpoint: found ")


@pytest.mark.parametrize("name", UNPLAIN)
def test_a_zip_file_that_is_not_plain_is_one_line(name: str, tmp_path: Path) -> None:
    path = tmp_path / "some.pth"
    path.write_bytes(UNPLAIN[name])
    assert refusal(path).startswith("can't be read as a checkpoint: found ")


def test_a_bomb_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "some.pth"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("some/data.pkl", bytes(10**7))
    assert "expected nothing compressed" in refusal(path)


@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])
def test_wherever_a_file_is_cut_it_is_one_line(legacy: bool, tmp_path: Path, state: State) -> None:
    path = tmp_path / "some.pth"
    torch.save(state, path, _use_new_zipfile_serialization=not legacy)
    content = path.read_bytes()
    for part in (0.001, 0.01, 0.1, 0.5, 0.9, 0.999):
        path.write_bytes(content[: int(part * len(content))])
        assert refusal(path).startswith("can't be read as a checkpoint: ")


@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])
def test_no_damaged_pickle_is_more_than_one_line(
    legacy: bool, tmp_path: Path, state: State
) -> None:
    path = tmp_path / "some.pth"
    torch.save(state, path, _use_new_zipfile_serialization=not legacy)
    content = path.read_bytes()
    begin = content.index(b"image_encoder")
    random = Random(0)
    for _ in range(8):
        damaged = bytearray(content)
        for _ in range(3):
            damaged[begin + random.randrange(5000)] = random.randrange(256)
        path.write_bytes(damaged)
        with suppress(SegmenterError):  # or a change of no consequence
            load(path)


def test_what_a_norm_counts_is_a_whole_number(tmp_path: Path) -> None:
    source, network = torch.nn.BatchNorm2d(3), torch.nn.BatchNorm2d(3)
    source(torch.zeros(2, 3, 4, 5))  # counts one batch
    load_checkpoint(network, write(tmp_path / "right.pth", source.state_dict()))
    assert network.num_batches_tracked is not None
    assert int(network.num_batches_tracked) == 1
    wrong = source.state_dict() | {"num_batches_tracked": torch.tensor(1.0)}
    with pytest.raises(
        SegmenterError, match="found strided float32 on cpu, expected strided int64"
    ):
        load_checkpoint(network, write(tmp_path / "wrong.pth", wrong))
