"""The commands of ``tsn-preprocess``, one module each."""
