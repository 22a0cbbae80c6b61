"""Pushing from training: what `transformers.Trainer` publishes is a whole model in one commit, without a pickle.

Hooks of Trainer that are replaced (transformers 5.23): `create_model_card`, `push_to_hub`, `_push_from_checkpoint`.
"""

from pathlib import Path
from typing import Any, cast

from huggingface_hub import CommitInfo
from transformers import Trainer
from transformers.trainer_utils import HubStrategy

from modeling.embedded import CARD_FILE
from modeling.files import write_text

from .card import local_card
from .model import publish_checkpoint


class PublishingTrainer(Trainer):
    """`transformers.Trainer` that publishes as `python -m train publish` does."""

    def create_model_card(self, *args: Any, **kwargs: Any) -> None:
        """Keep our card, or write one; Trainer's own would replace it by a stub without a figure."""
        if self.is_world_process_zero():
            folder = Path(str(self.args.output_dir))
            write_text(folder / CARD_FILE, local_card(folder))

    def push_to_hub(
        self,
        commit_message: str | None = "End of training",
        blocking: bool = True,
        token: str | None = None,
        revision: str | None = None,
        private: bool | None = None,
        **kwargs: Any,
    ) -> CommitInfo:
        """Save the model and publish it as `python -m train publish` does: in one commit, without a pickle.

        Args:
            commit_message: of the commit.
            blocking: without effect, this always waits.
            token: with write access; `hub_token` or the login by default.
            revision: branch; `hub_revision` by default.
            private: of a new repository; `hub_private_repo` (here: True) by default.
            **kwargs: what Trainer's own stub would have said; without effect.

        Returns:
            The commit; on the other processes of several `None`, as Trainer does.
        """
        self.callback_handler.on_push_begin(self.args, self.state, self.control)
        if self.hub_model_id is None:
            self.init_hf_repo(token=token, private=private)
        self.save_model(_internal_call=True)
        if not self.is_world_process_zero():
            return cast(CommitInfo, None)
        self.create_model_card()
        return self._publish(Path(str(self.args.output_dir)), commit_message, token, revision, private)

    def _push_from_checkpoint(self, checkpoint_folder: str) -> None:
        """Publish a checkpoint while training goes on to the next one; called at every save."""
        if self.is_world_process_zero() and self.args.hub_strategy != HubStrategy.END:
            self.callback_handler.on_push_begin(self.args, self.state, self.control)
            self._publish(Path(checkpoint_folder), f"Training in progress, step {self.state.global_step}")

    def _publish(
        self,
        folder: Path,
        message: str | None,
        token: str | None = None,
        revision: str | None = None,
        private: bool | None = None,
    ) -> CommitInfo:
        private = self.args.hub_private_repo if private is None else private
        published = publish_checkpoint(
            folder,
            str(self.hub_model_id),
            public=private is False,
            message=message or "End of training",
            token=token or self.args.hub_token,
            revision=revision or self.args.hub_revision,
        )
        return published.info


__all__ = ["PublishingTrainer"]
