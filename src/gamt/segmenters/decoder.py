"""SAM's prompt encoder and mask decoder, for many prompts on different slices at once.

The modules and weights are segment-anything's; the arithmetic is arranged anew, to the same
numbers. The package projects every token of the image for each attention between image and prompt,
although there are 4,096 of the one (at 1024 px) and some eight of the other. Here the prompt's side
is projected: for a token t of the prompt and x of the image, t . (W x) = (W' t) . x, and a weighted
sum of W x is W times that sum of x. Transposed convolutions, whose steps are as wide as their
kernels, are matrix products on tokens, and only the chosen mask is computed. Measured for a prompt
at 1024 px in float32 on one core with AVX-512: 106 ms by the package, 40 ms here; more prompts at
once take longer each (60 ms), because one alone stays in the cache. At 256 px: 7 ms, or 3.5 ms each
for eight at once.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional

from gamt.prompts import SlicePrompt
from gamt.segmenters.frames import Frame, Shape
from gamt.segmenters.networks import Network

PADDING = -1
"""The kind of the token that stands for "no box"; 0 and 1 are points outside and inside."""

CORNERS = (2, 3)
"""The kinds of a box's corners: top left, bottom right."""


def prompt_tokens(
    prompt: SlicePrompt, frame: Frame, shape: Shape
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]:
    """Returns what the points and the box of a prompt are to the network.

    Args:
        prompt: on a slice.
        frame: of the network.
        shape: of the slice.

    Returns:
        Places (T, 2), (x, y) in pixels of the square input, and kinds (T,): the points, then the
        box's corners; where there are points and no box, a padding token, as SAM was trained.
    """
    places, kinds = [prompt.points], [prompt.labels]
    if prompt.box is not None:
        places.append(np.reshape(prompt.box, (2, 2)))
        kinds.append(np.array(CORNERS))
    elif len(prompt.points):
        places.append(np.zeros((1, 2)))
        kinds.append(np.array([PADDING]))
    return frame.scale_points(np.concatenate(places), shape), np.concatenate(kinds)


class PromptDecoder:
    """Turns embedded slices and prompts into masks."""

    def __init__(self, network: Network) -> None:
        """Takes a loaded network over, on its device, whose decoder is in float32."""
        self._prompt_encoder = network.prompt_encoder
        self._mask_decoder = network.mask_decoder
        with torch.inference_mode():
            encoder = self._prompt_encoder
            self._kinds = torch.cat(
                [encoder.not_a_point_embed.weight]
                + [embedding.weight for embedding in encoder.point_embeddings]
            )
            *_, self._embed_mask = encoder.mask_downscaling
            # Of a Sequential, a slice is one of the same class, with what else that class does.
            self._shrink_mask = encoder.mask_downscaling[:-1]
            place = encoder.get_dense_pe().flatten(2)[0].T
            transformer = self._mask_decoder.transformer
            self._layers = [
                (
                    layer,
                    _TokenToImage(layer.cross_attn_token_to_image, place),
                    _ImageToToken(layer.cross_attn_image_to_token, place),
                )
                for layer in transformer.layers
            ]
            self._last = _TokenToImage(transformer.final_attn_token_to_image, place)

    def __call__(
        self,
        features: Sequence[torch.Tensor],
        places: torch.Tensor,
        kinds: torch.Tensor,
        masks: torch.Tensor,
        multimask: torch.Tensor,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Decodes B prompts that have T tokens each.

        Args:
            features: B embedded slices (channels, rows, columns), of any precision.
            places: (B, T, 2) float32, from `prompt_tokens`.
            kinds: (B, T) int64, likewise.
            masks: (M, 1, low-res rows, low-res columns) float32 log-odds, M <= B: the mask prompts
                of the first M; the others have none.
            multimask: (B,) bool: True takes, of three masks, that of the highest predicted IoU;
                False takes the one that SAM means for unambiguous prompts.

        Returns:
            The masks (B, low-res rows, low-res columns) and their predicted IoUs (B,), float32 on
            the same device.
        """
        image = self._embed_images(features, masks)
        tokens = self._embed_tokens(places, kinds)
        answers, image = self._exchange(tokens, image)
        decoder = self._mask_decoder
        ious = decoder.iou_prediction_head(answers[:, 0])
        chosen = torch.where(multimask, 1 + ious[:, 1:].argmax(dim=1), 0)[:, None]
        filters = torch.stack(
            [
                network(answers[:, 1 + index])
                for index, network in enumerate(decoder.output_hypernetworks_mlps)
            ],
            dim=1,
        )
        filters = filters.take_along_dim(chosen[:, :, None], dim=1)[:, 0]
        return self._draw(image, filters, features[0].shape[1:]), ious.take_along_dim(chosen, 1)[
            :, 0
        ]

    def _embed_images(self, features: Sequence[torch.Tensor], masks: torch.Tensor) -> torch.Tensor:
        """Returns the slices as tokens (B, tokens, channels), the mask prompts added."""
        image = torch.stack([one.flatten(1).T for one in features]).float()
        count = len(masks)
        image[count:] += self._prompt_encoder.no_mask_embed.weight
        if count:
            shrunk = self._shrink_mask(masks).flatten(2).transpose(1, 2)
            image[:count] += self._embed_mask.bias
            weight = self._embed_mask.weight.flatten(1).T
            image[:count].baddbmm_(shrunk, weight.expand(count, -1, -1))
        return image

    def _embed_tokens(self, places: torch.Tensor, kinds: torch.Tensor) -> torch.Tensor:
        """Returns the tokens of the answers and of the prompts (B, 5 + T, channels)."""
        encoder, decoder = self._prompt_encoder, self._mask_decoder
        # The middle of a pixel, as the package places points and corners alike.
        where = encoder.pe_layer.forward_with_coords(places + 0.5, encoder.input_image_size)
        prompts = where.masked_fill(kinds[..., None] == PADDING, 0) + self._kinds[kinds - PADDING]
        answers = torch.cat([decoder.iou_token.weight, decoder.mask_tokens.weight])
        return torch.cat([answers.expand(len(places), -1, -1), prompts], dim=1)

    def _exchange(
        self, tokens: torch.Tensor, image: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Lets tokens and image attend to each other; returns both."""
        queries = tokens
        for layer, ask_image, tell_image in self._layers:
            if layer.skip_first_layer_pe:
                queries = layer.self_attn(q=queries, k=queries, v=queries)
            else:
                placed = queries + tokens
                queries = queries + layer.self_attn(q=placed, k=placed, v=queries)
            queries = layer.norm1(queries)
            queries = layer.norm2(queries + ask_image(queries + tokens, image))
            queries = layer.norm3(queries + layer.mlp(queries))
            image = layer.norm4(tell_image(image, queries + tokens, queries))
        queries = queries + self._last(queries + tokens, image)
        return self._mask_decoder.transformer.norm_final_attn(queries), image

    def _draw(
        self, image: torch.Tensor, filters: torch.Tensor, grid: Sequence[int]
    ) -> torch.Tensor:
        """Enlarges the image four times and applies a filter (B, channels) to each pixel."""
        first, norm, activate, second, activate_again = self._mask_decoder.output_upscaling
        pixels = _enlarge(image, first)
        pixels = functional.layer_norm(pixels, pixels.shape[-1:], norm.weight, norm.bias, norm.eps)
        pixels = activate_again(_enlarge(activate(pixels), second))
        scores = torch.bmm(pixels.flatten(1, -2), filters[:, :, None])
        # Rows, columns, then twice the row and column within; see `_enlarge`.
        scores = scores.view(len(image), *grid, 2, 2, 2, 2).permute(0, 1, 3, 5, 2, 4, 6)
        return scores.reshape(len(image), 4 * grid[0], 4 * grid[1])


class _ImageProjection:
    """A projection of the image's tokens to heads, applied to the vectors that meet them."""

    def __init__(self, linear: Network, heads: int, place: torch.Tensor) -> None:
        """Takes the layer, and the positional encoding (tokens, channels) of the image."""
        self._weight = linear.weight.unflatten(0, (heads, -1))
        self._place = linear(place).T.unflatten(0, (heads, -1)).contiguous()

    def scores(self, vectors: torch.Tensor, image: torch.Tensor) -> torch.Tensor:
        """Multiplies vectors with the projected tokens, which have their places added.

        Args:
            vectors: (B, heads, T, head's channels).
            image: (B, tokens, channels).

        Returns:
            (B, heads, T, tokens).
        """
        scores: torch.Tensor = (vectors @ self._place).flatten(1, 2)
        scores.baddbmm_((vectors @ self._weight).flatten(1, 2), image.mT)
        return scores.view(*vectors.shape[:3], -1)


class _TokenToImage:
    """An attention layer whose queries are few tokens and whose keys and values the image."""

    def __init__(self, layer: Network, place: torch.Tensor) -> None:
        """Takes the layer, and the positional encoding (tokens, channels) of the image."""
        self._layer = layer
        self._keys = _ImageProjection(layer.k_proj, layer.num_heads, place)
        self._values = layer.v_proj.weight.unflatten(0, (layer.num_heads, -1)).mT

    def __call__(self, tokens: torch.Tensor, image: torch.Tensor) -> torch.Tensor:
        """Returns what tokens (B, T, channels) learn from the image (B, tokens, channels)."""
        queries = _scaled(_heads(self._layer.q_proj(tokens), self._layer.num_heads))
        weights = self._keys.scores(queries, image).softmax(dim=-1)
        seen = torch.bmm(weights.flatten(1, 2), image).view(*weights.shape[:3], -1) @ self._values
        # Weights add up to 1, so the bias may come after the sum.
        joined = seen.transpose(1, 2).flatten(2) + self._layer.v_proj.bias
        return torch.as_tensor(self._layer.out_proj(joined))


class _ImageToToken:
    """An attention layer whose queries are the image and whose keys and values few tokens."""

    def __init__(self, layer: Network, place: torch.Tensor) -> None:
        """Takes the layer, and the positional encoding (tokens, channels) of the image."""
        self._layer = layer
        self._queries = _ImageProjection(layer.q_proj, layer.num_heads, place)
        self._output = layer.out_proj.weight.unflatten(1, (layer.num_heads, -1)).permute(1, 2, 0)

    def __call__(
        self, image: torch.Tensor, keys: torch.Tensor, values: torch.Tensor
    ) -> torch.Tensor:
        """Adds to the image (B, tokens, channels), in place, what it learns from tokens."""
        heads = self._layer.num_heads
        scores = self._queries.scores(_scaled(_heads(self._layer.k_proj(keys), heads)), image)
        weights = scores.softmax(dim=2).flatten(1, 2)
        # The weights of each head add up to 1, and so its share of the bias to that share.
        told = _heads(self._layer.v_proj(values), heads) @ self._output
        told = told + self._layer.out_proj.bias / heads
        return image.baddbmm_(weights.mT, told.flatten(1, 2))


def _heads(tokens: torch.Tensor, heads: int) -> torch.Tensor:
    """Splits the channels of (B, T, channels): (B, heads, T, head's channels)."""
    return torch.unflatten(tokens, -1, (heads, -1)).transpose(1, 2)


def _scaled(vectors: torch.Tensor) -> torch.Tensor:
    """Divides vectors by the root of their length, as attention does with its scores."""
    return vectors * float(vectors.shape[-1] ** -0.5)


def _enlarge(tokens: torch.Tensor, convolution: Network) -> torch.Tensor:
    """Applies a transposed convolution of kernel and step 2.

    Args:
        tokens: (..., channels).
        convolution: its weight is (channels, new channels, 2, 2).

    Returns:
        (..., row, column, new channels): four pixels for each one.
    """
    weight = convolution.weight.permute(0, 2, 3, 1).flatten(1)
    bias = convolution.bias.repeat(4)
    return torch.unflatten(functional.linear(tokens, weight.T, bias), -1, (2, 2, -1))
