"""Generators of audio embeddings for classes without audio: one file each behind the protocol in `protocol.py`."""
