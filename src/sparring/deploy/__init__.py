"""A defended model for use elsewhere: as a module, as a file."""
