"""Configurations of tiny CLIP towers: a whole checkpoint in a moment."""

VISION = {
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "image_size": 32,
    "patch_size": 16,
    "projection_dim": 8,
}
TEXT = {
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "projection_dim": 8,
    "vocab_size": 100,
    "max_position_embeddings": 10,
    "bos_token_id": 98,
    "eos_token_id": 99,
    "pad_token_id": 99,
}
