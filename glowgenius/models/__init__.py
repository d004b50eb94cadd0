"""Base models: loading through `transformers`, the catalogue of names, and GGUF conversion."""
