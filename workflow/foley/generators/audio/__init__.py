"""Generators of audio, one file each behind one small protocol."""
