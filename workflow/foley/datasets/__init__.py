"""Datasets: one file each, behind the protocol in `protocol.py`, listed in `registry.py`."""
