"""The native engine: forward and backward pass of Llama-shaped models without autograd."""
