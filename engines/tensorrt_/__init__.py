"""TensorRT: plans built on the device from a bundle's ONNX, kept beside it, and never taken for another device's."""
