"""Files that run the network without this package."""
