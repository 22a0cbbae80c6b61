"""From a checkpoint on disk to the Hugging Face Hub, and to graphs for other runtimes."""
