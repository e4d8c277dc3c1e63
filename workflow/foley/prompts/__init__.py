"""Prompts: what a text-to-audio generator is asked for, from templates, word lists or a language model."""
