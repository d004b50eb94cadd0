"""How a tuned model leaves: merged weights, GGUF, adapters for servers, and the hub."""
