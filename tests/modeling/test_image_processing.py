"""The processor equals CLIP's Pillow processor, in one resampling, and survives saving and loading."""

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import AutoImageProcessor
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

from modeling.colour_robust_clip import to_rgb
from modeling.image_processing_robust_clip import RobustClipImageProcessor

STD = np.array([0.26862954, 0.26130258, 0.27577711], dtype=np.float32)
MEAN = np.array([0.48145466, 0.4578275, 0.40821073], dtype=np.float32)


def noise(width, height):
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8))


def steps(pixel_values):
    """Normalised values back to 8-bit steps."""
    return (np.asarray(pixel_values)[0] * STD[:, None, None] + MEAN[:, None, None]) * 255


@pytest.mark.parametrize(
    "size",
    [
        (224, 224),
        (225, 224),
        (640, 480),
        (481, 333),
        (333, 481),
        (100, 77),
        (32, 32),
        (1201, 57),
        (57, 1201),
        (35, 900),
    ],
)
def test_values_equal_clips_pillow_processor(size):
    picture = noise(*size)
    ours = RobustClipImageProcessor()(picture)["pixel_values"]
    theirs = CLIPImageProcessorPil()(picture, return_tensors="np")["pixel_values"]
    assert ours.shape == (1, 3, 224, 224) and ours.dtype == np.float32
    difference = np.abs(steps(ours) - steps(theirs))
    assert difference.max() < 1.001  # one 8-bit step
    same = difference < 0.5
    assert same.mean() > 0.99
    np.testing.assert_allclose(ours[0][same], np.asarray(theirs)[0][same], atol=1e-6)


@pytest.mark.parametrize("size", [(224, 224), (500, 224), (224, 701)])
def test_short_side_of_224_is_cropped_without_resampling(size):
    picture = noise(*size)
    ours = RobustClipImageProcessor()(picture)["pixel_values"]
    np.testing.assert_array_equal(
        ours, np.asarray(CLIPImageProcessorPil()(picture, return_tensors="np")["pixel_values"])
    )


def test_white_becomes_the_known_values():
    white = RobustClipImageProcessor()(Image.new("RGB", (50, 50), "white"))["pixel_values"]
    np.testing.assert_allclose(white[0, :, 0, 0], [1.93033625, 2.07488384, 2.14589666], atol=1e-6)


def test_strip_of_1_to_3000_needs_no_huge_intermediate(monkeypatch):
    sizes = []
    resize = Image.Image.resize

    def watched(image, size, *args, **kwargs):
        sizes.append(size)
        return resize(image, size, *args, **kwargs)

    monkeypatch.setattr(Image.Image, "resize", watched)
    values = RobustClipImageProcessor()(noise(1, 3000))["pixel_values"]
    assert values.shape == (1, 3, 224, 224) and np.isfinite(values).all()
    assert sizes == [(224, 224)]


def test_another_size_is_respected():
    picture = noise(80, 60)
    theirs = CLIPImageProcessorPil(size={"shortest_edge": 30}, crop_size={"height": 30, "width": 30})
    ours = RobustClipImageProcessor(size=30)(picture)["pixel_values"]
    assert ours.shape == (1, 3, 30, 30)
    assert np.abs(steps(ours) - steps(theirs(picture, return_tensors="np")["pixel_values"])).max() < 1.001


def test_every_type_of_input_gives_the_same_values():
    picture = noise(90, 70)
    array = np.asarray(picture)
    tensor = torch.tensor(array).permute(2, 0, 1)
    batch = RobustClipImageProcessor()([picture, array, tensor, np.asfortranarray(array)])["pixel_values"]
    assert batch.shape == (4, 3, 224, 224)
    for values in batch[1:]:
        np.testing.assert_array_equal(values, batch[0])


def test_grey_array_equals_grey_picture():
    grey = noise(90, 70).convert("L")
    batch = RobustClipImageProcessor()([grey, np.asarray(grey), grey.convert("RGB")])["pixel_values"]
    np.testing.assert_array_equal(batch[0], batch[1])
    np.testing.assert_array_equal(batch[0], batch[2])


def test_a_picture_does_not_depend_on_its_batch():
    pictures = [noise(90, 70), noise(64, 64), noise(300, 40)]
    processor = RobustClipImageProcessor()
    batch = processor(pictures)["pixel_values"]
    for row, picture in zip(batch, pictures, strict=True):
        np.testing.assert_array_equal(row, processor(picture)["pixel_values"][0])


@pytest.mark.parametrize(("kind", "expected"), [("pt", torch.Tensor), ("np", np.ndarray), (None, np.ndarray)])
def test_return_tensors_decides_the_type(kind, expected):
    assert isinstance(RobustClipImageProcessor()(images=noise(40, 40), return_tensors=kind)["pixel_values"], expected)


@pytest.mark.parametrize(
    "wrong",
    [
        np.zeros((40, 40, 3), dtype=np.float32),
        np.zeros((40, 40, 4), dtype=np.uint8),
        np.zeros((3, 40, 40), dtype=np.uint8),
        np.zeros((2, 40, 40, 3), dtype=np.uint8),
        np.zeros((0, 40, 3), dtype=np.uint8),
        torch.zeros(3, 40, 40),
        torch.zeros(40, 40, 3, dtype=torch.uint8),
        torch.zeros(2, 3, 40, 40, dtype=torch.uint8),
    ],
)
def test_array_of_another_shape_or_type_is_refused_with_what_came(wrong):
    with pytest.raises(ValueError, match="must be uint8.*got") as refusal:
        RobustClipImageProcessor()(wrong)
    assert str(tuple(wrong.shape)) in str(refusal.value)


@pytest.mark.parametrize("wrong", ["picture.png", b"bytes", None, 3])
def test_input_of_another_type_is_refused(wrong):
    with pytest.raises(TypeError, match="PIL images, numpy arrays or torch tensors, got"):
        RobustClipImageProcessor()([wrong])


def test_empty_list_and_unknown_option_are_refused():
    with pytest.raises(ValueError, match="at least one"):
        RobustClipImageProcessor()([])
    with pytest.raises(TypeError, match="do_resize"):
        RobustClipImageProcessor()(noise(40, 40), do_resize=False)


@pytest.mark.parametrize(
    "fields",
    [
        {"size": 0},
        {"size": 2.5},
        {"size": {"height": 32, "width": 64}},
        {"image_mean": [0.5]},
        {"image_std": [0.0, 1.0, 1.0]},
    ],
)
def test_impossible_settings_are_refused(fields):
    with pytest.raises(ValueError, match="must"):
        RobustClipImageProcessor(**fields)


def test_saved_processor_loads_with_equal_settings_and_values(tmp_path):
    processor = RobustClipImageProcessor(size=32, image_mean=[0.1, 0.2, 0.3], image_std=[0.4, 0.5, 0.6])
    processor.save_pretrained(tmp_path)
    assert (tmp_path / "preprocessor_config.json").is_file()
    loaded = RobustClipImageProcessor.from_pretrained(tmp_path)
    assert (loaded.size, loaded.image_mean, loaded.image_std) == (32, [0.1, 0.2, 0.3], [0.4, 0.5, 0.6])
    picture = noise(90, 70)
    np.testing.assert_array_equal(loaded(picture)["pixel_values"], processor(picture)["pixel_values"])


def test_auto_image_processor_loads_the_saved_folder_as_remote_code(tmp_path, monkeypatch):
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path / "modules"))
    RobustClipImageProcessor(size=32).save_pretrained(tmp_path / "saved")
    loaded = AutoImageProcessor.from_pretrained(tmp_path / "saved", trust_remote_code=True)
    assert type(loaded).__name__ == "RobustClipImageProcessor" and loaded.size == 32
    assert loaded(images=noise(50, 40), return_tensors="pt")["pixel_values"].shape == (1, 3, 32, 32)


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "RGBA", "CMYK", "YCbCr", "LAB", "HSV", "I", "F", "LA", "RGBX"])
def test_every_mode_becomes_rgb(mode):
    image = noise(40, 40).convert("L").convert(mode) if mode in ("I", "F", "1") else noise(40, 40).convert(mode)
    assert to_rgb(image).mode == "RGB"


@pytest.mark.parametrize("mode", ["PA", "La", "RGBa", "I;16", "I;16B", "I;16L"])
def test_rare_modes_become_rgb(mode):
    assert to_rgb(Image.new(mode, (40, 40))).mode == "RGB"


def test_upright_opaque_rgb_is_returned_as_it_is():
    image = noise(40, 40)
    assert to_rgb(image) is image


def test_32_bit_grey_holding_8_bit_values_is_not_darkened():
    grey = noise(40, 40).convert("L")
    np.testing.assert_array_equal(np.asarray(to_rgb(grey.convert("I"))), np.asarray(grey.convert("RGB")))


def test_transparent_value_of_a_16_bit_picture_is_white():
    image = Image.fromarray(np.array([[5, 65535], [0, 5]], dtype=np.uint16))
    image.info["transparency"] = 5
    assert np.asarray(to_rgb(image))[..., 0].tolist() == [[255, 255], [0, 255]]
