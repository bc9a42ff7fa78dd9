"""Turns checkpoints into artifacts: ONNX graphs, GGUF files and manifests. Torch lives here."""
