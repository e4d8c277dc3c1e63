"""The study `diverse_embeddings`: do hand-made features add to end-to-end learning?"""
