"""The fast forward pass against the package's own."""

import pytest
import torch
from torch import nn

from gamt.segmenters import encoder
from gamt.segmenters.encoder import ImageEncoder, attend_folded, attend_in_pieces
from tests.small_sam import small_network

# 160 px: 10 x 10 tokens, less than a window. 256: as SAM-Med2D, 16 = 14 + 2. 320: 20 = 14 + 6.
# 448: two whole windows. 512: 32 = 14 + 14 + 4.
SIDES = [160, 256, 320, 448, 512]


def images(count: int, side: int) -> torch.Tensor:
    return torch.randn(count, 3, side, side, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("side", SIDES)
def test_equals_the_package(side: int) -> None:
    module = small_network(side).image_encoder
    batch = images(3, side)
    with torch.inference_mode():
        expected = module(batch)
        found = ImageEncoder(module, torch.float32)(batch)
    assert expected.std() > 0.5
    torch.testing.assert_close(found, expected, rtol=0, atol=2e-5)


@pytest.mark.parametrize("side", SIDES)
def test_equals_the_package_with_the_bias_folded_in(
    side: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(encoder, "attend_in_pieces", attend_folded)
    test_equals_the_package(side)


@pytest.mark.parametrize("piece", [1, 30_000, 2**30], ids=["row by row", "some rows", "at once"])
def test_the_size_of_pieces_does_not_matter(piece: int, monkeypatch: pytest.MonkeyPatch) -> None:
    generator = torch.Generator().manual_seed(0)
    # 5 windows, 2 heads, 3 x 4 queries that meet 6 x 7 keys: 5 * 2 * 12 * 42 scores, 20,160 bytes.
    query = torch.randn(5, 2, 3, 4, 8, generator=generator)
    key, value = torch.randn(2, 5, 2, 6, 7, 8, generator=generator)
    rows = torch.randn(5, 2, 3, 4, 6, generator=generator)
    columns = torch.randn(5, 2, 3, 4, 7, generator=generator)
    scores = torch.einsum("nhrcd,nhykd->nhrcyk", query, key)
    scores = scores + rows[..., :, None] + columns[..., None, :]
    weights = scores.flatten(-2).softmax(dim=-1).view_as(scores)
    expected = torch.einsum("nhrcyk,nhykd->nhrcd", weights, value)
    monkeypatch.setattr(encoder, "PIECE_BYTES", piece)
    for attend in (attend_in_pieces, attend_folded):
        found = attend(query, key, value, rows, columns)
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)


def test_padding_takes_part_in_windows() -> None:
    # The bias of keys and values is all that padding has, so without it the results differ.
    module = small_network(320).image_encoder
    batch = images(1, 320)
    with torch.inference_mode():
        before = ImageEncoder(module, torch.float32)(batch)
        module.blocks[0].attn.qkv.bias[48:] += 1
        after = ImageEncoder(module, torch.float32)(batch)
        torch.testing.assert_close(after, module(batch), rtol=0, atol=2e-5)
    assert (after - before).abs().max() > 0.1


def test_an_adapter_is_a_branch_beside_the_mlp() -> None:
    module = small_network(160).image_encoder
    batch = images(2, 160)
    with torch.inference_mode():
        without = ImageEncoder(module, torch.float32)(batch)
        # With the MLP as its adapter, a block adds twice what its MLP makes.
        module.blocks[1].Adapter = module.blocks[1].mlp
        found = ImageEncoder(module, torch.float32)(batch)
        del module.blocks[1].Adapter
        module.blocks[1].mlp = nn.Sequential(module.blocks[1].mlp, Twice())
        expected = module(batch)
    torch.testing.assert_close(found, expected, rtol=0, atol=2e-5)
    assert (found - without).abs().max() > 0.1


class Twice(nn.Module):
    """Doubles its input."""

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        return 2 * tokens


def test_bfloat16_is_close_to_float32() -> None:
    batch = images(2, 256)
    with torch.inference_mode():
        expected = small_network(256).image_encoder(batch)
        found = ImageEncoder(small_network(256).image_encoder, torch.bfloat16)(batch)
    # bfloat16 has 8 bits of mantissa, so its errors are some 0.2 % an operation.
    error = (found - expected).std() / expected.std()
    assert 1e-4 < error < 0.02
