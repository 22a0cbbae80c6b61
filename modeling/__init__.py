"""What a picture meets: the model, its processor, and the classes that serve it.

Importing this package registers the detector with transformers' Auto classes, so that a checkpoint loads without
remote code wherever the package is installed; it also marks the classes so that saving one copies its code.
"""

from transformers import AutoConfig, AutoImageProcessor, AutoModel, AutoModelForImageClassification

from .configuration_robust_clip import RobustClipConfig
from .image_processing_robust_clip import RobustClipImageProcessor
from .modeling_robust_clip import RobustClipForImageClassification, RobustClipModel

AutoConfig.register(RobustClipConfig.model_type, RobustClipConfig)
AutoModel.register(RobustClipConfig, RobustClipModel)
AutoModelForImageClassification.register(RobustClipConfig, RobustClipForImageClassification)
AutoImageProcessor.register(
    RobustClipConfig,
    image_processor_classes={"pil": RobustClipImageProcessor, "torchvision": RobustClipImageProcessor},
)

RobustClipConfig.register_for_auto_class()
RobustClipModel.register_for_auto_class("AutoModel")
RobustClipForImageClassification.register_for_auto_class("AutoModelForImageClassification")
RobustClipImageProcessor.register_for_auto_class("AutoImageProcessor")

__all__ = ["RobustClipConfig", "RobustClipForImageClassification", "RobustClipImageProcessor", "RobustClipModel"]
