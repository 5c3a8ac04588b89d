"""What an address says by itself: parsing, classification, groups and the registries. Pure."""
