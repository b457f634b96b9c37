"""Inference by ONNX Runtime, on graphs that ``lorikeet-hub adapter export`` writes."""
