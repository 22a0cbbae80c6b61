"""The Space: load a detector, build the page, launch. No model code and no file parsing here.

HOST, PORT and MODEL_ID come from the environment; 127.0.0.1:7860 and the embedded default otherwise.
"""

import logging
import os

# Read by gradio when it is imported.
os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")

import gradio as gr

from modeling.checkpoints import ROOT
from modeling.detector import Detection, Detector
from modeling.images import ImageError

EXAMPLES = [str(path) for path in sorted((ROOT / "examples").glob("*")) if path.suffix in (".jpg", ".webp")]
WORDS = {
    "real": "Probably a real photograph",
    "generated": "Probably AI-generated",
    "uncertain": "Uncertain: this picture could be either",
}
INTRODUCTION = """# Photograph or AI-generated?
Upload, paste or take a picture. Your file is deleted within 20 minutes."""


def describe(detection: Detection, operating_point: dict | None) -> str:
    """The answer in words, as Markdown."""
    percent = 100 * (detection.probability or 0.0)
    lines = [
        f"## {WORDS[str(detection.verdict)]}",
        f"If half of all pictures were AI-generated, the chance that this one is would be **{percent:.1f} %** "
        f"({_range(detection)}).",
        "The answer compares how the whole picture looks with the real and generated pictures that this detector was "
        "trained on. It does not look for watermarks or read camera data.",
        _limits(operating_point),
    ]
    if detection.probability_without_caption is not None:
        lines.append(f"Without the caption it would be {100 * detection.probability_without_caption:.1f} %.")
    return "\n\n".join(lines)


def _range(detection: Detection) -> str:
    """Where the verdicts begin."""
    real, generated = detection.real_threshold or 0.0, detection.generated_threshold or 0.0
    never = generated > 1  # set on too few photographs to promise a rate of false alarms
    called = "never called generated" if never else f"called generated from {100 * generated:.1f} %"
    return f"called real up to {100 * real:.1f} %, {called}"


def _limits(operating_point: dict | None) -> str:
    """One sentence on how often it is wrong, from the checkpoint's own measurement."""
    caution = "it may be wrong about a picture of another kind: never use it as the only evidence."
    names = ("false_positive_rate", "true_positive_rate", "false_negative_rate")
    operating_point = operating_point or {}
    if "false_positive_rate_bound_95" in operating_point:
        return (
            f"Its threshold was set on {operating_point['measured_on']}, so that at most "
            f"{100 * operating_point['target_fpr']:g} in 100 such photographs are called generated. How many "
            f"generated pictures it finds with this threshold was not measured; {caution}"
        )
    if not all(name in operating_point for name in names):
        return f"How often this checkpoint errs was not measured; {caution}"
    false_alarms, found, missed = (100 * operating_point[name]["value"] for name in names)
    return (
        f"From sources that it had never seen, it called {false_alarms:.0f} of 100 real pictures generated; of 100 "
        f"generated ones it called {found:.0f} generated and {missed:.0f} real, and was uncertain about the rest; "
        f"{caution}"
    )


def build_demo(detector: Detector) -> gr.Blocks:
    """Build the page and its API around a detector.

    The API endpoint `/detect` takes a picture (and a caption, where the checkpoint reads captions) and returns the
    text and the fields of `Detection.to_dict()`.
    """

    def detect(image: dict | None, caption: str = "") -> tuple[str, dict]:
        path = (image or {}).get("path")
        if not path:
            raise gr.Error("Please choose a picture first.", print_exception=False)
        try:
            detection = detector.detect(path, caption.strip() or None)
        except ImageError as error:
            raise gr.Error(str(error), print_exception=False) from error
        return describe(detection, detector.model.config.operating_point), detection.to_dict()

    with gr.Blocks(title="Photograph or AI-generated?", analytics_enabled=False, delete_cache=(600, 600)) as demo:
        gr.Markdown(INTRODUCTION)
        with gr.Row():
            with gr.Column():
                # image_mode=None and preprocess=False: our own loader gets the untouched file.
                image = gr.Image(
                    type="filepath",
                    image_mode=None,
                    sources=["upload", "clipboard", "webcam"],
                    label="Picture",
                    elem_id="picture",
                )
                caption = gr.Textbox(
                    label="Caption (optional)", visible=detector.reads_captions, elem_id="caption", max_length=1000
                )
                button = gr.Button("Check", variant="primary", elem_id="check")
                gr.Examples(EXAMPLES, inputs=[image], label="Examples to try (they do not show how often it is right)")
            with gr.Column():
                answer = gr.Markdown("The answer appears here.", elem_id="answer")
                with gr.Accordion("Details", open=False):
                    details = gr.JSON(label="All fields", elem_id="details")
        inputs = [image, caption] if detector.reads_captions else [image]
        button.click(detect, inputs, [answer, details], preprocess=False, api_name="detect", concurrency_limit=1)
    return demo.queue(max_size=32)


def main() -> None:
    """Load the detector, then serve the page until stopped."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)
    detector = Detector.from_pretrained(os.environ.get("MODEL_ID"))
    host, port = os.environ.get("HOST", "127.0.0.1"), int(os.environ.get("PORT", "7860"))
    print(f"Opening the page on http://{host}:{port}", flush=True)
    build_demo(detector).launch(
        server_name=host,
        server_port=port,
        max_file_size="50mb",
        run_history=False,
        footer_links=["api"],
        theme=gr.themes.Soft(),
        inbrowser=os.environ.get("OPEN_BROWSER") == "1",
    )


if __name__ == "__main__":
    main()
