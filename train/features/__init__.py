"""Pictures -> embeddings, once, so that a head trains in minutes: the feature bank."""
