"""A base as an ONNX graph whose adapter comes in from outside, and adapters for ONNX Runtime."""
