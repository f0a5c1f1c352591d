"""SSNM without torch: encoder and head as ONNX graphs, and in numpy what happens between them."""
