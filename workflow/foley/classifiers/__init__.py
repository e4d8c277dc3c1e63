"""Classifiers: what learns to recognise classes from real and synthetic data."""
