"""Clients of language models: one file each behind one protocol."""
