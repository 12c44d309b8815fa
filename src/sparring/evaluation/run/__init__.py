"""Makes points and rows: attacks block by block, the 8-bit lattice, images to keep. Only here are attacks run."""
