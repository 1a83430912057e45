"""The commands of ``tsn-train``, one module each; they load nothing heavy before they run."""
