"""Evaluation: plan, run, judge, count, question the count. Every number is derived from the rows on disk."""
