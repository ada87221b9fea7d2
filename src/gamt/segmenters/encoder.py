"""A fast forward pass of segment-anything's image encoder, with the same numbers.

The encoder adds to each attention score a bias that depends on how many rows and columns lie
between the two tokens (Li et al. 2022, MViTv2). As published, the scores of all heads and tokens
are written out three times over, 805 MB a time in float32 at 1024 px. What is faster differs:

- On a CPU, `attend_in_pieces`: a few megabytes of scores at a time, which stay in its cache.
  Measured for ViT-B on one core with AVX-512, milliseconds a global block (float32, bfloat16): as
  published 4,820 and 1,550; `scaled_dot_product_attention` with the bias as its mask 1,100 and 950;
  with the bias folded into queries and keys 1,960 and 1,890; in pieces 890 and 510. A block of 25
  windows: 240 and 140, 79 and 76, 136 and 96, 51 and 52.
- On a GPU, `attend_folded`: the bias becomes a part of the dot product, so that the fused kernels,
  which take no bias, can be used, and no score is ever written out.
"""

from collections.abc import Iterator

import torch
from torch.nn import functional

from gamt.segmenters.networks import Network

PIECE_BYTES = 4 * 2**20
"""Scores to hold at a time on a CPU."""


class ImageEncoder:
    """Runs an `ImageEncoderViT`.

    Its blocks may have a branch ``Adapter`` beside their ``mlp`` (SAM-Med2D): a module that takes
    and returns tokens (N, rows, columns, channels).
    """

    def __init__(self, module: Network, dtype: torch.dtype) -> None:
        """Takes a module over: loaded, on its device, in float32.

        Args:
            module: the network's image encoder.
            dtype: precision of the attention, the MLP and the adapter of each block. What flows
                past them is float32, as are the norms and what comes before and after the blocks:
                all in bfloat16 would be no faster, and its errors half as large again.
        """
        self._module = module
        self._dtype = dtype
        with torch.inference_mode():
            for block in module.blocks:
                for part in (block.attn, block.mlp, *_adapter(block)):
                    # Convolutions get tokens, whose channels come last, and would rearrange their
                    # weights for each slice.
                    part.to(dtype=dtype, memory_format=torch.channels_last)
            self._tables = [
                (_by_distance(block.attn.rel_pos_h), _by_distance(block.attn.rel_pos_w))
                for block in module.blocks
            ]

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        """Encodes images.

        Args:
            images: (N, 3, side, side) float32 on the module's device, normalised.

        Returns:
            (N, 256, side / 16, side / 16) float32.
        """
        tokens = self._module.patch_embed(images) + self._module.pos_embed
        for block, tables in zip(self._module.blocks, self._tables, strict=True):
            tokens += _attention(block, block.norm1(tokens).to(self._dtype), tables)
            normed = block.norm2(tokens).to(self._dtype)
            for branch in (block.mlp, *_adapter(block)):
                tokens += branch(normed)
        features: torch.Tensor = self._module.neck(tokens.permute(0, 3, 1, 2))
        return features


def attend_in_pieces(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    bias_rows: torch.Tensor,
    bias_columns: torch.Tensor,
) -> torch.Tensor:
    """Attends with a bias of rows plus columns, holding few scores at a time.

    Args:
        query: (N, heads, rows, columns, channels), scaled.
        key: (N, heads, key rows, key columns, channels).
        value: like `key`.
        bias_rows: (N, heads, rows, columns, key rows), what a score has added for the key's row.
        bias_columns: (N, heads, rows, columns, key columns), likewise.

    Returns:
        Like `query`.
    """
    count, heads, rows, columns, _ = query.shape
    keys = key.flatten(0, 1).flatten(1, 2).transpose(1, 2)
    values = value.flatten(0, 1).flatten(1, 2)
    row_bytes = heads * columns * keys.shape[2] * query.element_size()
    rows_each = max(1, min(rows, PIECE_BYTES // row_bytes))
    count_each = max(1, PIECE_BYTES // (rows_each * row_bytes))
    result = torch.empty_like(query)
    for first in range(0, count, count_each):
        some = slice(first, first + count_each)
        batch = slice(first * heads, (first + count_each) * heads)
        for top in range(0, rows, rows_each):
            piece = some, slice(None), slice(top, top + rows_each)
            scores = bias_rows[piece][..., :, None] + bias_columns[piece][..., None, :]
            scores = scores.flatten(0, 1).flatten(-2).flatten(1, 2)
            queries = query[piece].flatten(0, 1).flatten(1, 2)
            weights = scores.baddbmm_(queries, keys[batch]).softmax(dim=-1)
            result[piece] = torch.bmm(weights, values[batch]).view_as(result[piece])
    return result


def attend_folded(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    bias_rows: torch.Tensor,
    bias_columns: torch.Tensor,
) -> torch.Tensor:
    """Does what `attend_in_pieces` does, in one call of a fused kernel.

    The biases are further channels of the query; in those of the key, a one says which row and
    which column it is on. The values get zeros to be as long as the keys, which the flash kernel
    asks for (head sizes up to 256; here 64 + 2 x 64, and 80 + 2 x 64 for ViT-H).
    """
    rows, columns = key.shape[2:4]
    place = torch.cat(
        [
            torch.eye(rows, dtype=key.dtype, device=key.device).repeat_interleave(columns, dim=0),
            torch.eye(columns, dtype=key.dtype, device=key.device).repeat(rows, 1),
        ],
        dim=-1,
    ).expand(*key.shape[:2], -1, -1)
    answer = functional.scaled_dot_product_attention(
        torch.cat([query, bias_rows, bias_columns], dim=-1).flatten(2, 3),
        torch.cat([key.flatten(2, 3), place], dim=-1),
        functional.pad(value.flatten(2, 3), (0, rows + columns)),
        scale=1.0,
    )
    return torch.unflatten(answer[..., : value.shape[-1]], 2, query.shape[2:4])


def _adapter(block: Network) -> tuple[Network, ...]:
    """Returns a block's adapter, if it has one."""
    return (block.Adapter,) if hasattr(block, "Adapter") else ()


def _attention(
    block: Network, tokens: torch.Tensor, tables: tuple[torch.Tensor, torch.Tensor]
) -> torch.Tensor:
    """Returns what a block's attention makes of tokens (N, rows, columns, channels).

    Windows that reach beyond the grid hold padding there. It takes part as keys and values, which
    are the projection's bias, but is neither projected nor asked.
    """
    layer = block.attn
    attend = attend_in_pieces if tokens.device.type == "cpu" else attend_folded
    count, height, width, _ = tokens.shape
    side = block.window_size or height
    projected = layer.qkv(tokens)
    if height % side or width % side:
        whole = (count, height + -height % side, width + -width % side, -1)
        padded = layer.qkv.bias.expand(whole).clone()
        padded[:, :height, :width] = projected
        projected = padded
    # (query, key and value; N, windows down, windows across; heads; window; head's channels)
    parts = projected.unflatten(3, (3, layer.num_heads, -1)).unflatten(2, (-1, side))
    parts = parts.unflatten(1, (-1, side)).permute(5, 0, 1, 3, 6, 2, 4, 7)
    result = torch.empty_like(tokens)
    for down, rows in _real_parts(height, side):
        for across, columns in _real_parts(width, side):
            windows = parts[:, :, down, across]
            query, key, value = windows.flatten(1, 3).contiguous()
            query = query[..., :rows, :columns, :]
            answer = attend(
                query * layer.scale,
                key,
                value,
                torch.einsum("nhrcd,rkd->nhrck", query, tables[0][:rows]),
                torch.einsum("nhrcd,ckd->nhrck", query, tables[1][:columns]),
            )
            answer = torch.unflatten(answer, 0, windows.shape[1:4]).permute(0, 1, 4, 2, 5, 3, 6)
            top, left = down.start * side, across.start * side
            result[:, top : down.stop * side, left : across.stop * side] = answer.reshape(
                count, answer.shape[1] * rows, answer.shape[3] * columns, -1
            )
    return torch.as_tensor(layer.proj(result))


def _real_parts(size: int, side: int) -> Iterator[tuple[slice, int]]:
    """Yields along an axis the windows that are whole and the one that is not, with its length."""
    whole, rest = divmod(size, side)
    if whole:
        yield slice(0, whole), side
    if rest:
        yield slice(whole, whole + 1), rest


def _by_distance(table: torch.Tensor) -> torch.Tensor:
    """Spreads a table of distances (2 * size - 1, channels) to pairs (size, size, channels)."""
    places = torch.arange((len(table) + 1) // 2, device=table.device)
    return table[places[:, None] - places + len(places) - 1]
