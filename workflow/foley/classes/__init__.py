"""What is known of a class without audio: its words, synonyms, attributes, and the vectors made of them."""
