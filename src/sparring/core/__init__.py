"""The ground floor: geometry, noise, losses, rows, the victim, the registry and spec text. Imports nothing above."""
