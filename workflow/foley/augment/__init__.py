"""Augmentation: labelled clips, changed so that their class stays; what a study compares synthetic clips with."""
