"""What plug-ins and our own tests import: toy networks, a contract suite for every kind, and the pytest plug-in that runs them."""
