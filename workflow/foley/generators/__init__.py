"""Generators: of embeddings, and of audio."""
