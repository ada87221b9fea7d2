"""Prompts decoded together against the package's own prompt encoder and mask decoder."""

import numpy as np
import pytest
import torch

from gamt.prompts import SlicePrompt
from gamt.segmenters.decoder import PromptDecoder, prompt_tokens
from gamt.segmenters.frames import LongestSide
from gamt.segmenters.networks import Network
from tests.small_sam import small_network

SIDE = 320
GRID, LOW_RES = SIDE // 16, SIDE // 4

KINDS = {
    "nothing": [],
    "point": [1, -1],
    "negative point": [0, -1],
    "box": [2, 3],
    "box and points": [1, 0, 1, 2, 3],
    "many points": [1, 0] * 15 + [-1],
}


@pytest.fixture(scope="module")
def network() -> Network:
    return small_network(SIDE)


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def package(
    network: Network,
    features: torch.Tensor,
    places: torch.Tensor,
    kinds: list[int],
    mask: torch.Tensor | None,
    multimask: bool,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Asks the package about a single prompt; returns its best mask and the predicted IoU."""
    count = sum(kind in (0, 1) for kind in kinds)
    sparse, dense = network.prompt_encoder(
        points=(places[None, :count], torch.tensor([kinds[:count]])) if count else None,
        boxes=places[-2:].reshape(1, 4) if 2 in kinds else None,
        masks=None if mask is None else mask[None],
    )
    masks, ious = network.mask_decoder(
        features[None], network.prompt_encoder.get_dense_pe(), sparse, dense, multimask
    )
    best = ious[0].argmax()
    return masks[0, best], ious[0, best]


@pytest.mark.parametrize("kinds", KINDS.values(), ids=list(KINDS))
def test_prompts_of_different_slices_are_answered_as_by_the_package(
    kinds: list[int], network: Network
) -> None:
    # Six prompts on as many slices; the first three have masks, every other one wants several.
    features = draw(6, 256, GRID, GRID)
    places = SIDE * torch.rand(6, len(kinds), 2, generator=torch.Generator().manual_seed(1))
    masks = 5 * draw(3, 1, LOW_RES, LOW_RES, seed=2)
    multimask = torch.tensor([True, False] * 3)
    with torch.inference_mode():
        found, quality = PromptDecoder(network)(
            list(features),
            places,
            torch.tensor(kinds, dtype=torch.int64).expand(6, -1),
            masks,
            multimask,
        )
        assert found.shape == (6, LOW_RES, LOW_RES)
        for index in range(6):
            expected, iou = package(
                network,
                features[index],
                places[index],
                kinds,
                masks[index] if index < 3 else None,
                bool(multimask[index]),
            )
            assert expected.std() > 0.3
            torch.testing.assert_close(found[index], expected, rtol=0, atol=3e-5)
            torch.testing.assert_close(quality[index], iou, rtol=0, atol=1e-5)


def test_of_three_masks_the_best_is_taken_and_not_the_fourth(network: Network) -> None:
    # The last bias of the IoU head is the predicted IoU of each of the four masks, nearly.
    network = small_network(SIDE)
    head = network.mask_decoder.iou_prediction_head.layers[-1]
    features, places = draw(1, 256, GRID, GRID), torch.full((1, 2, 2), 50.0)
    question = (list(features), places, torch.tensor([[2, 3]]), torch.empty(0, 1, 80, 80))
    with torch.inference_mode():
        head.weight.zero_()
        masks = []
        for best in (1, 2, 3):
            head.bias.copy_(torch.tensor([9.0, 0.1, 0.2, 0.3]))
            head.bias[best] = 1
            mask, iou = PromptDecoder(network)(*question, torch.tensor([True]))
            assert iou.tolist() == [1]
            masks.append(mask)
        mask, iou = PromptDecoder(network)(*question, torch.tensor([False]))
        assert iou.tolist() == [9]
        masks.append(mask)
    for index, one in enumerate(masks):
        assert all((one - other).abs().max() > 0.1 for other in masks[:index])


def test_embeddings_in_bfloat16_are_taken_for_what_they_are(network: Network) -> None:
    features = draw(1, 256, GRID, GRID).bfloat16()
    places, kinds = torch.full((1, 2, 2), 50.0), torch.tensor([[2, 3]])
    rest = (places, kinds, torch.empty(0, 1, LOW_RES, LOW_RES), torch.tensor([False]))
    with torch.inference_mode():
        decoder = PromptDecoder(network)
        narrow, wide = decoder(list(features), *rest), decoder(list(features.float()), *rest)
    assert narrow[0].dtype == torch.float32
    for one, other in zip(narrow, wide, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=0)


def test_an_image_is_left_as_it_is(network: Network) -> None:
    features = draw(2, 256, GRID, GRID)
    before = features.clone()
    places, kinds = torch.full((2, 2, 2), 50.0), torch.tensor([[2, 3], [2, 3]])
    masks, multimask = draw(1, 1, LOW_RES, LOW_RES), torch.tensor([True, False])
    with torch.inference_mode():
        PromptDecoder(network)(list(features), places, kinds, masks, multimask)
    torch.testing.assert_close(features, before, rtol=0, atol=0)


def test_tokens_of_a_prompt() -> None:
    # 40 x 56 fills 229 x 320 of the square: x grows by 320 / 56 and y by 229 / 40.
    frame, shape = LongestSide(320), (40, 56)
    points, labels = np.array([[7.0, 8.0], [0.0, 4.0]]), np.array([1, 0])
    box = (7.0, 4.0, 56.0, 40.0)
    corners = [[40.0, 22.9], [320.0, 229.0]]
    clicked = [[40.0, 45.8], [0.0, 22.9]]
    expected: list[tuple[SlicePrompt, list[list[float]], list[int]]] = [
        (SlicePrompt(), [], []),
        (SlicePrompt(mask=np.zeros(shape, np.float32)), [], []),
        (SlicePrompt(box), corners, [2, 3]),
        (SlicePrompt(None, points, labels), [*clicked, [0.0, 0.0]], [1, 0, -1]),
        (SlicePrompt(box, points, labels), clicked + corners, [1, 0, 2, 3]),
    ]
    for prompt, places, kinds in expected:
        found, found_kinds = prompt_tokens(prompt, frame, shape)
        np.testing.assert_allclose(found, np.reshape(places, (-1, 2)), rtol=1e-12)
        assert found_kinds.tolist() == kinds
