"""Export of a tuned model: merged weights, GGUF, adapters for servers, and upload to the hub."""
