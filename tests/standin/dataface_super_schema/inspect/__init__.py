"""See the package: this is a stand-in."""
