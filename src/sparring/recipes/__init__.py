"""Five papers, replayed: a recipe a table or figure, and every claim judged (docs/replay.md)."""
