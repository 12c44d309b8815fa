"""Classifiers: loading by spec text, mean/std as a layer, preparation for attack. Images in [0,1] in, logits out."""
