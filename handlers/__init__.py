"""The edge: read, ask access, call a store, reply."""
