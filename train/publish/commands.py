"""`python -m train export`, `publish` and `publish-space`."""

from .graph import export_checkpoint
from .model import Publication, publish
from .options import ExportArguments, PublishArguments, PublishSpaceArguments
from .space import publish_space


def export(arguments: ExportArguments) -> None:
    """Write a graph, and print its files."""
    print(f"written: {', '.join(map(str, export_checkpoint(arguments)))}")


def publish_model(arguments: PublishArguments) -> None:
    """Publish a checkpoint, and print how to load it."""
    published = publish(arguments)
    _print_publication(published)
    name = published.repo_id
    print(
        f'load it: pipeline("image-classification", model="{name}", trust_remote_code=True)\n'
        f'with this project: Detector.from_pretrained("{name}"), or MODEL_ID={name} python app.py\n'
        f'exactly this state: revision="{published.commit}"'
    )


def publish_page(arguments: PublishSpaceArguments) -> None:
    """Publish the page, and print which model it serves."""
    space = publish_space(arguments)
    _print_publication(space.publication)
    print(f"it serves: {space.model}")
    if space.model == "default":
        print("it fetches the backbone when it starts, from the package index or else from the Hub")
    if space.model_is_private:
        print(f"{space.model} is private: give the Space a secret HF_TOKEN that may read it (Settings, Secrets)")


def _print_publication(published: Publication) -> None:
    state = "published" if published.changed else "already up to date"
    print(f"{state}: {published.url} ({'private' if published.private else 'public'}), commit {published.commit}")
    print(f"files: {', '.join(published.files)}")
    if published.deleted:
        print(f"deleted there: {', '.join(published.deleted)}")
