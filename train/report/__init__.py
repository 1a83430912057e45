"""One page about trained and tested networks: ``tsn-train report``."""
