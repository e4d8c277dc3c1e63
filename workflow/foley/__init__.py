"""Foley: will synthetic audio help my classifier?

The library under the workflow. It never imports snakemake; its rooms are listed in CONTRIBUTING.md,
lower ones first, and a room imports only from rooms before it in that list.
"""

__version__ = "0.1.0"
