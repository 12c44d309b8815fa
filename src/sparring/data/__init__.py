"""Images for evaluation: in [0,1], with labels, stable ids and a content hash."""
