"""The zero-shot study: can an embedding generator stand in for classes without audio?

Protocol of ZeroDiffusion (arXiv 2412.03771): train on seen classes, generate embeddings of unseen ones from their
class vectors, train a compatibility classifier on both, test on real clips of unseen classes (conventional: argmax
over unseen classes; generalised: over all, with held-out clips of seen classes beside). The last epoch counts;
nothing is chosen by unseen clips.
"""
