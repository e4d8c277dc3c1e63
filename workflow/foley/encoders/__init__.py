"""Pretrained audio and text encoders behind one small protocol, and where their weights come from."""
