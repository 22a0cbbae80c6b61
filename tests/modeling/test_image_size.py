"""A tower that sees larger squares than it was trained on: its learned positions are interpolated, once."""

import pytest
import torch

from modeling import RobustClipModel
from tests.backbones import FAMILIES, save_backbone

SIDE, LARGER = 32, 64
SEE_ANY_SIZE = ("dinov2", "dinov2_with_registers", "dinov3_vit")


@pytest.mark.parametrize("family", FAMILIES)
def test_embeddings_are_those_of_transformers_interpolated_positions(tmp_path, family):
    theirs, _ = save_backbone(family, tmp_path)
    model = RobustClipModel.from_backbone(tmp_path, image_size=LARGER).eval()
    pixel_values = torch.randn(2, 3, LARGER, LARGER)
    with torch.no_grad():
        embeds = model(pixel_values=pixel_values).image_embeds
        if family in SEE_ANY_SIZE:
            expected = theirs(pixel_values=pixel_values).last_hidden_state[:, 0]
        else:
            options = {"pixel_values": pixel_values, "interpolate_pos_encoding": True}
            expected = theirs.get_image_features(**options).pooler_output
    torch.testing.assert_close(embeds, expected)
    own = theirs.config.image_size if family in SEE_ANY_SIZE else LARGER
    assert model.config.vision_config.image_size == own


def test_its_own_size_changes_nothing(tmp_path):
    save_backbone("clip", tmp_path)
    plain, asked = (RobustClipModel.from_backbone(tmp_path, image_size=size) for size in (None, SIDE))
    states = (model.vision_tower.state_dict().values() for model in (plain, asked))
    assert all(torch.equal(mine, other) for mine, other in zip(*states, strict=True))


@pytest.mark.parametrize("image_size", [0, 4, SIDE + 1])
def test_a_size_that_patches_do_not_fill_is_refused(tmp_path, image_size):
    save_backbone("clip", tmp_path)
    with pytest.raises(ValueError, match=f"`image_size` must be a multiple of .* got {image_size}"):
        RobustClipModel.from_backbone(tmp_path, image_size=image_size)
