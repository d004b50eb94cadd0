"""Where base models come from: the door to `transformers`, the catalogue of names, and the GGUF conversion."""
