"""The cases of every contract: what its document says, as tables."""
